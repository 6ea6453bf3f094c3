"""Here scores are read by layer: tables, depth, selection, shares of variance, weights of mixes."""
