"""Forward passes of many utterances at once, in which each is encoded as if it were alone."""
