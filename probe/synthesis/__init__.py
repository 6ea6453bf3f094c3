"""Corpora that espeak-ng speaks, for the demo and for pretraining."""
