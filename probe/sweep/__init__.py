"""Here every layer is probed for every target, with every control."""
