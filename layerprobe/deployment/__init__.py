"""Deploying: a predictor of a run's findings, with its intervals and its card."""
