"""Erasure: what a concept removes from the scores of layers, compared with random directions."""
