"""Fixtures of media: each decoder, a recording, and the files that it is encoded to."""

from __future__ import annotations

import pytest
from helpers.media_files import by_program, by_pyav, changing_voice, write_media

from layerprobe.probe.data import media_decoder


@pytest.fixture(params=[by_pyav, by_program], ids=["pyav", "ffmpeg"])
def each_decoder(request, monkeypatch):
    monkeypatch.setattr(media_decoder, "open_stream", request.param)
    return request.param


@pytest.fixture(scope="session")
def samples():
    return changing_voice()


@pytest.fixture(scope="session")
def files(tmp_path_factory, samples):
    """Path of a file by its name in `CASES`, encoded at its first use; tests change copies alone."""
    folder = tmp_path_factory.mktemp("media")
    return lambda name: folder / name if (folder / name).exists() else write_media(folder, name, samples)
