"""Scores by time: layer × time maps of spans, their chance levels, and the bin that predicts best."""
