"""The content of a cache in an object store."""

from __future__ import annotations

from hashlib import sha256

from layerprobe.probe.filesystem import resolve


def remote_hash(url):
    """Hash the names and bytes of all chunks, as `helpers.cache_rows.content_hash` does for a folder."""
    path, digest = resolve(url), sha256()
    files = [f for f in path.rglob("*") if "/c/" in str(f) and f.is_file()]
    for file in sorted(files, key=str):
        digest.update(str(file).removeprefix(f"{path}/").encode() + file.read_bytes())
    return digest.hexdigest()
