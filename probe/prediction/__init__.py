"""Ratings of recordings, whole or in windows, by a predictor or a trained regressor."""
