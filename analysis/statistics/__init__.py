"""Bootstrap, permutation tests, best-layer sets and word error rates."""
