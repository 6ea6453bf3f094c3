"""Similarity of representations: CKA, CCA and RSA."""
