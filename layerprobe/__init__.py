"""Layer-wise probing of speech and text encoders for emotion ratings."""
