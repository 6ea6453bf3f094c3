"""Corpora as they ship become manifests, one file per corpus."""
