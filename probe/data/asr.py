"""Stage: sounds become transcripts by a speech recogniser of transformers, resumable, one utterance at a time."""

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
from layerprobe.probe.data.transcripts import filled
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import hub_commit, quiet_transformers, loading_error_message
from layerprobe.probe.progress import NullProgress

CHUNK_SECONDS = 30.0  # of long sound, overlapping by a sixth on either side as the pipeline does


@dataclass(frozen=True)
class Transcription:
    """What a run of `transcribe` did."""

    table: pd.DataFrame  # with the column of words, and the one that says where they are from
    n_encoded: int  # in this run
    n_without_text: int  # utterances in which it heard no word
    quarantine: pd.DataFrame  # utterance_id, path, reason


class Recogniser:
    """A speech recogniser; made by `load_recogniser`."""

    def __init__(self, pipeline: Any, *, name: str, options: dict[str, Any]) -> None:
        """Name it as it goes into the table."""
        self._pipeline, self.name, self._options = pipeline, name, options
        self.sampling_rate = int(pipeline.feature_extractor.sampling_rate)

    def __call__(self, waveform: np.ndarray) -> str:
        """The words of one sound ``(n_samples,)``; '' where it hears none."""
        given = {"raw": waveform, "sampling_rate": self.sampling_rate}
        with quiet_transformers(bars=False), torch.inference_mode():
            answer = self._pipeline(given, **self._options)
        return " ".join(str(answer["text"]).split())


def load_recogniser(name: str, *, device: str = "cpu", language: str | None = None) -> Recogniser:
    """Load a recogniser from a folder or the hub; weights are safetensors, and no code of the model's own is run.

    Args:
        name: a hub name with an optional ``@revision``, or a folder
        device: cpu or cuda
        language: of a Whisper that knows several; None lets it tell by itself

    Raises:
        InputError: if nothing is found there, or it is no recogniser
    """
    from transformers import pipeline

    folder = Path(name)
    with quiet_transformers(bars=not folder.is_dir()):
        try:
            source, revision = (str(folder), None) if folder.is_dir() else hub_commit(name)
            made = pipeline(
                "automatic-speech-recognition",
                model=source,
                revision=revision,
                device=device,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            raise InputError(loading_error_message(name, folder, error, needed_files="preprocessor and tokenizer")) from error
    options: dict[str, Any] = {"chunk_length_s": CHUNK_SECONDS}
    if made.model.config.model_type == "whisper" and getattr(made.model.generation_config, "is_multilingual", False):
        options["generate_kwargs"] = {"task": "transcribe", **({} if language is None else {"language": language})}
    elif language is not None:
        raise InputError(f"{name} knows one language. Leave --language out.")
    shown = folder.resolve().name if folder.is_dir() else source
    return Recogniser(made, name=shown + (f"@{revision}" if revision else ""), options=options)


def transcribe(
    table: pd.DataFrame, recogniser: Recogniser, *, column: str, notes: Path, progress: NullProgress | None = None
) -> Transcription:
    """Transcribe every utterance that has no words in ``column``; those that have keep them.

    What was heard is noted at once in ``notes``, so that an interrupted run goes on where it was.

    Args:
        table: of a manifest
        recogniser: what hears
        column: to be filled
        notes: a file beside the table to come, which the caller deletes once that is written
        progress: receives the progress

    Raises:
        InputError: if ``notes`` are of another recogniser
    """
    progress = progress or NullProgress()
    hashes = AudioHashes()
    source = AudioReader(hashes, sampling_rate=recogniser.sampling_rate, max_duration=MAX_DURATION)
    known = _read_notes(notes, recogniser.name)
    before = table[column].astype(str).str.strip() if column in table else pd.Series("", index=table.index)
    rows: list[Row] = table.to_dict("records")
    wordless = [k for k, there in enumerate(before) if not there]
    words: list[str | None] = [None] * len(rows)
    quarantine, n_encoded = Quarantine(), 0

    def read(row: Row) -> tuple[str, np.ndarray]:
        material = source.read(row)
        return material.content, decode_waveform(material)

    with notes.open("a", encoding="utf-8") as file:
        if not known:
            file.write(json.dumps({"recogniser": recogniser.name}) + "\n")
        asked = [rows[k] for k in wordless]
        for place, (content, waveform) in read_audio(
            asked, read, quarantine=quarantine, threads=1, task="transcribe", progress=progress
        ):
            name = asked[place]["utterance_id"]
            found = known.get((name, content))
            if found is None:
                found = recogniser(waveform)
                n_encoded += 1
                file.write(json.dumps({"utterance_id": name, "content": content, "words": found}) + "\n")
                file.flush()
            words[wordless[place]] = found
    done = filled(table, words, source=recogniser.name, column=column)
    return Transcription(done, n_encoded, sum(w == "" for w in words), quarantine.table())


def _read_notes(notes: Path, name: str) -> dict[tuple[str, str], str]:
    """Words by utterance and sound; a torn last line is left out."""
    if not notes.exists():
        return {}
    lines = notes.read_text(encoding="utf-8", errors="replace").split("\n")
    entries = []
    for number, line in enumerate(lines):
        try:
            entries += [json.loads(line)] if line.strip("\0 ") else []
        except ValueError as error:
            if any(rest.strip("\0 ") for rest in lines[number + 1 :]):
                raise InputError(f"{notes}, line {number + 1} can't be read. Delete it to begin anew.") from error
    if entries and entries[0].get("recogniser") != name:
        raise InputError(
            f"{notes} has what {entries[0].get('recogniser')} heard, not {name}. Delete it, or name another --out."
        )
    if lines and lines[-1].strip("\0 "):  # the torn line goes, so that the next begins on its own
        whole = "".join(json.dumps(entry) + "\n" for entry in entries)
        notes.write_text(whole, encoding="utf-8")
    return {(e["utterance_id"], e["content"]): e["words"] for e in entries[1:]}
