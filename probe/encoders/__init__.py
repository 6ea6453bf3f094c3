"""Encoders: from a waveform or a text to layers of frames, and to pooled layers."""
