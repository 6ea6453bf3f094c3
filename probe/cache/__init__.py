"""The zarr store of pooled layers: plan, journal, writer, verification; opens without torch."""
