"""Synthetic speech corpora by espeak-ng, for the demo and for pre-training."""
