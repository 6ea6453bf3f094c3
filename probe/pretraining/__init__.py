"""Pretrain a small encoder from audio alone, or distil one from a larger encoder."""
