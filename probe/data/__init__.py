"""Manifests, audio files and transcripts: what is read before an encoder sees anything."""
