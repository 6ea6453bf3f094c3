"""Containers of audio: how long the sound in a file is by its bytes, whatever its header states."""
