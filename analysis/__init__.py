"""Here scores become findings: tables, statistics, similarity, and the records that reports are written from."""
