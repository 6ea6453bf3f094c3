"""Serving: a page and a JSON interface on this machine that rate recordings with a predictor."""
