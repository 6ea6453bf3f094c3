"""Probing in time: bins of spans, embeddings of spans averaged per utterance, ratings of spans, and their peaks."""
