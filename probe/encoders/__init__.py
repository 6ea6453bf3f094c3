"""Here a waveform or a text becomes layers of frames, and these become pooled layers."""
