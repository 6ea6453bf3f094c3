"""Here chance is told from finding: bootstrap over speakers, permutations, sets of best layers, word error rates."""
