"""Findings as records, the sentences that are written from them, and methods."""
