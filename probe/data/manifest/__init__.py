"""Manifests: the table of utterances with its header, read, checked, drafted and written."""
