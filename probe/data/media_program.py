"""Decoding by the program ``ffmpeg``, where it is on the PATH together with ``ffprobe``."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import numpy as np

from layerprobe.probe.data.containers.length import ForeignFormat
from layerprobe.probe.data.media_stream import StreamFacts, damaged, no_audio, tagged_seconds, version_number
from layerprobe.probe.data.remarks import BY_PROGRAM, Remark
from layerprobe.probe.exceptions import InvalidAudioError

LIMIT_SECONDS = 60.0  # without a sample, or an answer
BLOCK = 2**18  # bytes that are read at once
COPIED = 2**20  # bytes that are copied at once
FIRST_PACKETS = "%+#8"
SAMPLE = 4  # bytes of float32
# The file is open already and is passed by number: no name is parsed, and no other file or address is opened.
SAFE = ("-v", "error", "-protocol_whitelist", "file,pipe")


def find_programs() -> tuple[str, str] | None:
    """Return the paths of ffmpeg and ffprobe; None unless both are on the PATH."""
    ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
    return (ffmpeg, ffprobe) if ffmpeg and ffprobe else None


class ProgramStream:
    """The first audio stream of an open file, decoded by a process that waits while nothing is read."""

    def __init__(self, file: BinaryIO, found: ForeignFormat, programs: tuple[str, str]) -> None:
        """Ask ffprobe for what the file states; it is closed with the stream.

        Raises:
            InvalidAudioError: if there is no audio, or the file is damaged
        """
        self._ffmpeg, ffprobe = programs
        self._file, self._found = _with_number(file), found
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        try:
            probed = self._probe(ffprobe)
            self.facts, self.n_channels = _facts(probed, found)
        except BaseException:
            self.close()
            raise
        self.decoded_by = Remark(BY_PROGRAM, _libavcodec_version(probed))

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield samples ``(n_samples, n_channels)`` float32.

        Raises:
            InvalidAudioError: if the file is damaged, or the program gives nothing for `LIMIT_SECONDS`
        """
        errors = self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the stream
        output = ("-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "f32le", "-")
        command = [self._ffmpeg, "-nostdin", "-xerror", *SAFE, *self._input(), *output]
        process = self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, pass_fds=(self._file.fileno(),)
        )
        self._end = weakref.finalize(self, _end, process, os.getpid())
        pipe, rest, width = process.stdout, b"", SAMPLE * self.n_channels
        if pipe is None:
            raise RuntimeError("a process without the pipe that it was started with")
        while content := self._read(pipe):
            content = rest + content
            n_whole = len(content) // width * width
            rest = content[n_whole:]
            yield np.frombuffer(content[:n_whole], "<f4").astype(np.float32).reshape(-1, self.n_channels)
        if process.wait(LIMIT_SECONDS) != 0 or rest:
            errors.seek(0)
            raise damaged(f"ffmpeg: {_first_line(errors.read(COPIED))}")

    def close(self) -> None:
        """End the process, and close the file."""
        if self._process is not None:
            self._end()
        if self._errors is not None:
            self._errors.close()
        self._file.close()

    def _read(self, pipe: IO[bytes]) -> bytes:
        ready, _, _ = select.select([pipe], [], [], LIMIT_SECONDS)
        if not ready:
            raise _no_answer("ffmpeg")
        return os.read(pipe.fileno(), BLOCK)

    def _input(self) -> tuple[str, ...]:
        number = self._file.fileno()
        os.lseek(number, 0, os.SEEK_SET)  # where opening by number gives the same position, as on macOS
        return ("-f", self._found.demuxer, "-i", f"file:/dev/fd/{number}")

    def _probe(self, ffprobe: str) -> dict[str, Any]:
        shown = (
            "-of",
            "json",
            "-show_streams",
            "-show_format",
            "-show_packets",
            "-show_data",
            "-show_library_versions",
        )
        command = [ffprobe, *SAFE, *shown, "-read_intervals", FIRST_PACKETS, *self._input()]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT_SECONDS,
                pass_fds=(self._file.fileno(),),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _no_answer("ffprobe") from error
        if done.returncode != 0:
            raise InvalidAudioError("LP204", f"could not be decoded (ffprobe: {_first_line(done.stderr)})")
        probed: dict[str, Any] = json.loads(done.stdout.decode(errors="replace"))
        return probed


def _libavcodec_version(probed: dict[str, Any]) -> float:
    """Return the version of the library that decodes, as `version_number` writes it; 0 where it isn't printed."""
    libraries = {one["name"]: one for one in probed.get("library_versions", [])}
    found = libraries.get("libavcodec")
    return version_number(int(found["major"]), int(found["minor"])) if found else 0.0


def _facts(probed: dict[str, Any], found: ForeignFormat) -> tuple[StreamFacts, int]:
    """Return what is stated of the first audio stream, and its number of channels."""
    streams = probed.get("streams", [])
    audio = [one for one in streams if one.get("codec_type") == "audio"]
    if not audio:
        raise no_audio(len(streams))
    stream, container = audio[0], probed.get("format", {})
    begin = float(stream.get("start_time", 0))
    seconds = float(stream["duration"]) if "duration" in stream else tagged_seconds(stream.get("tags", {}), begin)
    facts = StreamFacts(
        demuxer=found.demuxer,
        codec=stream.get("codec_name", ""),
        rate=int(stream.get("sample_rate", 0)),
        seconds=seconds if found.states_length else None,
        seconds_of_all=float(container.get("duration", 0)) if found.states_length else None,
        n_streams=len(streams),
        n_audio_streams=len(audio),
        begins=begin - float(container.get("start_time", 0)),
        header=_dumped(stream.get("extradata", "")),
        skipped=_skipped(probed.get("packets", []), stream["index"]),
    )
    return facts, int(stream.get("channels", 1))


def _dumped(text: str) -> bytes:
    """Return the bytes that ffprobe shows in lines such as ``00000000: 4f70 7573 4865 6164  OpusHead``."""
    return b"".join(bytes.fromhex(line.split(": ")[1].split("  ")[0]) for line in text.splitlines() if ": " in line)


def _skipped(packets: list[dict[str, Any]], index: int) -> int | None:
    """Return the samples that a stream's first packet states are to be left out; None where it states none."""
    first = next((one for one in packets if one.get("stream_index") == index), {})
    return next((int(one["skip_samples"]) for one in first.get("side_data_list", []) if "skip_samples" in one), None)


def _with_number(file: BinaryIO) -> BinaryIO:
    """Return a file that the system knows by a number: itself, or a copy of what is in memory."""
    try:
        file.fileno()
        return file
    except OSError:
        copy: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the stream
        with file:
            shutil.copyfileobj(file, copy, COPIED)
        copy.flush()
        return copy


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End a process, unless this is a fork of the process that started it."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _first_line(printed: bytes) -> str:
    """Return the first line that a program printed, without the name of the part that printed it."""
    lines = re.sub(r"^\[[^]]*\] ", "", printed.decode(errors="replace").strip()).splitlines()
    return re.sub(r"file:/dev/fd/\d+: ", "", lines[0]) if lines else "it ended without a reason"


def _no_answer(program: str) -> InvalidAudioError:
    text = f"{program} gave nothing for {LIMIT_SECONDS:g} s and was ended; the file is damaged, or the disk is slow"
    return InvalidAudioError("LP245", text)
