"""Importers of corpora from their own folders and label files, one module per corpus."""
