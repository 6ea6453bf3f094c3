"""Extraction: fill a cache by one process, several processes or a Dask cluster; estimate it, repair it."""
