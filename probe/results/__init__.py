"""The run folder: scores.csv, predictions.npz, plan.toml, and partial results."""
