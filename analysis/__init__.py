"""From scores to findings; needs neither torch nor zarr."""
