"""What stands in the place of a file after a clone without git-lfs, a failed download or a power failure."""

from __future__ import annotations

FOREIGN = {  # kind: content, and what a message states of it, as a pattern
    "empty": (b"", r"is empty( \(0 bytes\))?"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb\nsize 12345\n",
        r"is a git-lfs pointer, not the file itself \(fetch the file: git lfs pull\)",
    ),
    "page": (
        b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not, found</body></html>\n",
        "is a web page, not the file itself",
    ),
    "zeros": (bytes(2_000), "holds zeros alone, as after a power failure"),
}
