"""Scores by layer: tables, depth, selection, variance partitioning and weights."""
