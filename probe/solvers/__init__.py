"""Ridge, logistic regression, MLP and MDL over arrays; no file is opened here."""
