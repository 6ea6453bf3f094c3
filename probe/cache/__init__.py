"""Here pooled layers are kept in a zarr store, which opens without torch: plan, journal, writer, verification."""
