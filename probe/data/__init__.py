"""Manifests, audio files and transcripts: the input of encoders."""
