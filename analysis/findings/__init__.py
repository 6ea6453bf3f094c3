"""Here a study becomes records, and the records sentences: findings, limitations, methods."""
