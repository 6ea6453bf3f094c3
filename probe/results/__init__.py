"""Here the run folder is written and read: scores.csv, predictions.npz, plan.toml, and partial results."""
