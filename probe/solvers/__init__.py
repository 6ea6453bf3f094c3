"""Here probes are fitted to arrays, and no file is opened: ridge, logistic regression, MLP, description length."""
