"""Containers of audio: how much audio is in a file by its bytes, whatever its header states."""
