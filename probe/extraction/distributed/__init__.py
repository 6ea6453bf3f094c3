"""Extraction in shards, by several processes or machines."""
