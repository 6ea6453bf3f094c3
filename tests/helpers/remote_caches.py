"""What a cache in an object store holds."""

from __future__ import annotations

from hashlib import sha256

from layerprobe.probe.filesystem import resolve


def remote_hash(url):
    """The same as of a folder."""
    path, digest = resolve(url), sha256()
    files = [f for f in path.rglob("*") if "/c/" in str(f) and f.is_file()]
    for file in sorted(files, key=str):
        digest.update(str(file).removeprefix(f"{path}/").encode() + file.read_bytes())
    return digest.hexdigest()
