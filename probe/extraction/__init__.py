"""Here an encoder fills a cache, by one process, several, or a Dask cluster; estimates and repairs are here, too."""
