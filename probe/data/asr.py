"""Stage: transcripts from a speech recogniser of transformers, one utterance at a time and resumable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from layerprobe.probe.data.audio_hashes import AudioHashes, Row
from layerprobe.probe.data.audio_reader import Quarantine, decode_waveform, read_audio
from layerprobe.probe.data.inputs import MAX_DURATION, AudioReader
from layerprobe.probe.data.reading import DEFAULT_READING, ReadingOptions
from layerprobe.probe.data.transcripts import fill_column
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.filesystem import replace_file
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.model_errors import first_pass
from layerprobe.probe.pretrained import RECOGNISER, find_pretrained
from layerprobe.probe.progress import NullProgress

CHUNK_SECONDS = 30.0  # of long audio; chunks overlap by a sixth on either side, as in the pipeline
PROGRESS_FORMAT_VERSION = 1
TRANSCRIBED = {"utterance_id", "content", "text"}  # in each line of progress but the first


@dataclass(frozen=True)
class Transcription:
    """Result of `transcribe`."""

    table: pd.DataFrame  # with the column of transcripts, and COLUMN_source with the source of each
    n_encoded: int  # utterances transcribed in this run
    n_without_text: int  # utterances whose transcript is empty
    quarantine: pd.DataFrame  # utterance_id, path, reason


class Recogniser:
    """A speech recogniser, as `load_recogniser` returns it."""

    def __init__(self, pipeline: Any, *, name: str, options: dict[str, Any]) -> None:
        """Wrap a pipeline of transformers; ``name`` is the source that the table will state."""
        self._pipeline, self.name, self._options = pipeline, name, options
        self.sampling_rate = int(pipeline.feature_extractor.sampling_rate)

    @property
    def label(self) -> str:
        """What transcripts depend on: the source, and the language where one was given."""
        language = self._options.get("generate_kwargs", {}).get("language")
        return self.name if language is None else f"{self.name} in {language}"

    def __call__(self, waveform: np.ndarray) -> str:
        """Return the transcript of one waveform ``(n_samples,)``; '' where nothing is recognised."""
        audio = {"raw": waveform, "sampling_rate": self.sampling_rate}
        with quiet_transformers(bars=False), torch.inference_mode():
            result = self._pipeline(audio, **self._options)
        return " ".join(str(result["text"]).split())


def load_recogniser(name: str, *, device: str = "cpu", language: str | None = None) -> Recogniser:
    """Load a recogniser from a folder or the hub; only safetensors are read.

    Args:
        name: a hub name with an optional ``@revision``, or a folder
        device: cpu or cuda
        language: of the audio, for a multilingual Whisper; None for automatic detection

    Raises:
        InputError: if nothing is found there, it is no recogniser or does not run, or ``language`` is given to a
            monolingual one
    """
    found = find_pretrained(name, RECOGNISER, kind="recogniser", show_download=True)
    recogniser = found.recogniser(device=device)
    options: dict[str, Any] = {"chunk_length_s": CHUNK_SECONDS}
    model = recogniser.model
    if model.config.model_type == "whisper" and getattr(model.generation_config, "is_multilingual", False):
        options["generate_kwargs"] = {"task": "transcribe", **({} if language is None else {"language": language})}
    elif language is not None:
        raise InputError("LP250", f"{name} recognises one language only. Leave --language out.")
    revision = "" if found.revision is None else f"@{found.revision}"
    loaded = Recogniser(recogniser, name=found.upstream + revision, options=options)
    with first_pass(found.label, "one second of audio", files="the preprocessor and tokenizer"):
        loaded(np.random.default_rng(0).normal(scale=0.01, size=loaded.sampling_rate).astype(np.float32))
    return loaded


def transcribe(
    table: pd.DataFrame,
    recogniser: Recogniser,
    *,
    column: str,
    progress_file: Path,
    reading: ReadingOptions = DEFAULT_READING,
    progress: NullProgress | None = None,
) -> Transcription:
    """Transcribe every utterance that has no transcript in ``column``; existing transcripts are kept.

    Each transcript is appended to ``progress_file`` at once, so that an interrupted run can be resumed.

    Args:
        table: of a manifest
        recogniser: as `load_recogniser` returns it
        column: to fill
        progress_file: JSON lines; the caller deletes the file once the new table is written
        reading: what is read of recordings
        progress: receives the progress

    Raises:
        InputError: if ``progress_file`` is damaged, of another recogniser, other options of reading or another format
            version
    """
    progress = progress or NullProgress()
    hashes = AudioHashes()
    source = AudioReader(hashes, sampling_rate=recogniser.sampling_rate, max_duration=MAX_DURATION, reading=reading)
    header = {
        "format_version": PROGRESS_FORMAT_VERSION,
        "recogniser": recogniser.label,
        "audio_channels": reading.channels_in_plan,
        "end_silence": reading.silence_in_plan,
    }
    known = _read_progress(progress_file, header)
    before = table[column].astype(str).str.strip() if column in table else pd.Series("", index=table.index)
    rows: list[Row] = table.to_dict("records")
    missing = [k for k, text in enumerate(before) if not text]
    texts: list[str | None] = [None] * len(rows)
    quarantine, n_encoded = Quarantine(), 0

    def read(row: Row) -> tuple[str, np.ndarray]:
        model_input = source.read(row)
        return model_input.content, decode_waveform(model_input)

    with progress_file.open("a", encoding="utf-8") as file:
        if not known:
            file.write(json.dumps(header) + "\n")
        pending = [rows[k] for k in missing]
        for index, (content, waveform) in read_audio(
            pending, read, quarantine=quarantine, threads=1, task="transcribe", progress=progress
        ):
            name = pending[index]["utterance_id"]
            text = known.get((name, content))
            if text is None:
                text = recogniser(waveform)
                n_encoded += 1
                file.write(json.dumps({"utterance_id": name, "content": content, "text": text}) + "\n")
                file.flush()
            texts[missing[index]] = text
    source.log_remarks(progress)
    filled = fill_column(table, texts, source=recogniser.name, column=column)
    return Transcription(filled, n_encoded, sum(t == "" for t in texts), quarantine.table())


def _read_progress(path: Path, header: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Return transcripts by utterance and content hash; a torn last line is left out."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    entries = []
    for number, line in enumerate(lines):
        try:
            entries += [json.loads(line)] if line.strip("\0 ") else []
        except ValueError as error:
            if any(rest.strip("\0 ") for rest in lines[number + 1 :]):
                raise InputError(
                    "LP251", f"{path}, line {number + 1} can't be read. Delete the file to start anew."
                ) from error
    if not all(isinstance(entry, dict) for entry in entries) or not all(set(e) >= TRANSCRIBED for e in entries[1:]):
        raise InputError(
            "LP251", f"{path} holds no transcripts of an interrupted command. Delete it, or name another --out."
        )
    if entries and entries[0].get("format_version") != PROGRESS_FORMAT_VERSION:
        raise InputError(
            "LP251",
            f"{path} has format_version {entries[0].get('format_version')}, not {PROGRESS_FORMAT_VERSION}. Delete the "
            "file to start anew.",
        )
    first = entries[0] if entries else header
    if first.get("recogniser") != header["recogniser"]:
        raise InputError(
            "LP252",
            f"{path} has transcripts of {first.get('recogniser')}, not of {header['recogniser']}. Delete it, or name "
            "another --out.",
        )
    if any(first.get(name) != header[name] for name in header):
        raise InputError(
            "LP252",
            f"{path} has transcripts of audio that was read with another --channel or --trim-silence. Give the same "
            "options, delete it, or name another --out.",
        )
    if lines and lines[-1].strip("\0 "):  # the torn line is removed, so that the next one has a line of its own
        complete = "".join(json.dumps(entry) + "\n" for entry in entries)
        replace_file(path, complete)
    return {(e["utterance_id"], e["content"]): e["text"] for e in entries[1:]}
