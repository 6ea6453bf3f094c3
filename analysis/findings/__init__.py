"""Findings as records, the sentences that are written from them, limitations and methods."""
