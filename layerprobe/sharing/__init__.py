"""Sharing: runs and caches, pushed to a repository of the hub or a folder, and pulled from it."""
