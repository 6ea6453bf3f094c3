"""Weighted sums of layers: the mixing weights and the regressor on the mix."""
