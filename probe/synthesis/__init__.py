"""Here espeak-ng speaks corpora, for the demo and for pretraining."""
