"""Decoding of what libsndfile can't, by FFmpeg: its libraries through PyAV, or its program."""
