"""Predictors: an encoder cut at a layer with its heads, saved as a folder and applied to recordings."""
