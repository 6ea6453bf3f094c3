"""A server of S3 on this machine, as a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from s3fs import S3FileSystem


@contextmanager
def served():
    """A server of S3 with the bucket ``corpora``; gives its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    credentials = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials.items():
            patch.setenv(name, value)
        # fsspec keeps filesystems by their options, of which an address in the environment is none
        patch.setattr(S3FileSystem, "_extra_tokenize_attributes", ("default_block_size", "served_at"))
        patch.setattr(S3FileSystem, "served_at", url, raising=False)
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(url).close()
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            urllib.request.urlopen(urllib.request.Request(f"{url}/corpora", method="PUT")).close()
            yield process
        finally:
            process.terminate()
            process.wait()
