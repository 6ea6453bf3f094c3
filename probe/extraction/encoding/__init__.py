"""From rows of a manifest to embeddings: reading ahead, forming packs, encoding in threads."""
