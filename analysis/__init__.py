"""From scores to findings: tables, statistics, similarity and the records that reports are written from."""
