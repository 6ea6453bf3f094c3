"""Fits of a sweep: ridge on layers, mixes, fusion, bins of time and erased concepts."""
