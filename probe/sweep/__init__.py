"""Layer-wise probing: every layer, every target, every control."""
