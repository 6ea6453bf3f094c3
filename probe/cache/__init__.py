"""The zarr store of pooled embeddings: plan, layout, journal, reader, writer, verification; opens without torch."""
