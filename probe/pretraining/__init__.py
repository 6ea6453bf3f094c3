"""Pre-train a small encoder on unlabelled audio, or distil one from a larger encoder."""
