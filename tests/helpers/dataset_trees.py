"""Small datasets in common formats: Hugging Face folders, shards, cuts of lhotse, and tables of labels with audio."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from helpers.command_line import run
from helpers.corpus_trees import write
from helpers.voices import voice

from layerprobe.probe.data.audio import read_audio_file
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Manifest

N = 6  # utterances
RATINGS = [1.5, 2.0, 3.25, 4.0, 5.0, 6.5]
SPEAKERS = ["ann", "ann", "bea", "bea", "cat", "cat"]
CLASSES = ["joy", "anger"]
SECONDS = 0.25


def audio_bytes(k: int, *, kind: str = "WAV") -> bytes:
    """An audio file of 16 kHz that differs from those of other numbers."""
    file = io.BytesIO()
    soundfile.write(file, voice(SECONDS, pitch=90 + 10 * k, seed=k), 16_000, format=kind)
    return file.getvalue()


def import_and_read(importer: str, source: object, out: Path, *arguments: object) -> Manifest:
    """Import on the command line and read the manifest."""
    result = run("manifest", "import", importer, source, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    return read_manifest(out)


def assert_audio_is_that_of_the_rows(manifest: Manifest, numbers: Sequence[int], *, kind: str = "WAV") -> None:
    """Each path leads to the samples of `audio_bytes` with that number."""
    for path, k in zip(manifest.table["path"], numbers, strict=True):
        expected, _ = soundfile.read(io.BytesIO(audio_bytes(k, kind=kind)), dtype="float32")
        assert np.array_equal(read_audio_file(path, sampling_rate=None), expected)


def hf_dataset(rows: Sequence[int] = range(N), **columns: list[Any]) -> Any:
    """A dataset with an Audio column, ratings, speakers and a ClassLabel, as ``load_dataset`` returns one."""
    from datasets import Audio, ClassLabel, Dataset

    values = {
        "audio": [{"bytes": audio_bytes(k), "path": f"a{k}.wav"} for k in rows],
        "EmoAct": [RATINGS[k] for k in rows],
        "spk": [SPEAKERS[k] for k in rows],
        "emotion": [k % 2 for k in rows],
        **columns,
    }
    dataset = Dataset.from_dict(values).cast_column("audio", Audio())
    return dataset.cast_column("emotion", ClassLabel(names=CLASSES))


def hf_parquet(folder: Path, dataset: Any = None, *, name: str = "data/train-00000-of-00001") -> Path:
    """A folder of Parquet files as the hub has it, with a card."""
    path = folder / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    (hf_dataset() if dataset is None else dataset).to_parquet(path)
    write(folder / "README.md", "---\nlicense: cc-by-4.0\n---\n# Card\n")
    return folder


def webdataset_shards(folder: Path, *, n_shards: int = 2) -> str:
    """Shards by webdataset's own writer; returns their pattern."""
    import webdataset

    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(n_shards):
        with webdataset.TarWriter(str(folder / f"shard-{shard:03d}.tar")) as writer:
            for k in range(3 * shard, 3 * shard + 3):
                labels = {"spk": SPEAKERS[k % N], "rating": {"arousal": RATINGS[k % N]}, "votes": [1, 2]}
                sample = {"flac": audio_bytes(k, kind="FLAC"), "json": json.dumps(labels), "txt": f"text {k}"}
                writer.write({"__key__": f"part{shard}/u{k}", **sample, "cls": k % 2})
    return str(folder / f"shard-{{000..{n_shards - 1:03d}}}.tar")


def lhotse_manifests(folder: Path) -> dict[str, Path]:
    """Recordings, supervisions and cuts of two recordings with two turns each."""
    import lhotse
    from lhotse.supervision import SupervisionSegment

    folder.mkdir(parents=True, exist_ok=True)
    recordings, supervisions = [], []
    for k in range(2):
        path = folder / f"r{k}.wav"
        soundfile.write(path, voice(2.0, pitch=100 + 20 * k, seed=k), 16_000)
        recordings.append(lhotse.Recording.from_file(path, recording_id=f"r{k}"))
        for turn in range(2):
            custom = {"arousal": RATINGS[2 * k + turn], "labels": {"emotion": CLASSES[turn]}}
            times = {"start": 0.2 + turn, "duration": 0.6}
            spoken = {"text": f"turn {turn}", "speaker": f"s{turn}", "gender": "female"}
            segment = SupervisionSegment(f"r{k}-{turn}", f"r{k}", **times, **spoken, custom=custom)
            supervisions.append(segment)
    sets = {
        "recordings": lhotse.RecordingSet.from_recordings(recordings),
        "supervisions": lhotse.SupervisionSet.from_segments(supervisions),
    }
    cuts = lhotse.CutSet.from_manifests(**sets)
    sets |= {"cuts": cuts, "trimmed": cuts.trim_to_supervisions(), "fast": cuts.perturb_speed(1.1)}
    paths = {name: folder / f"small_{name}_all.jsonl.gz" for name in sets}
    for name, content in sets.items():
        content.to_file(paths[name])
    return paths


EMOTALE_RATERS = (("a1", 0.0), ("a2", 0.5), ("a3", -0.5))


def emotale(root: Path) -> Path:
    """EmoTale: three raters' arousal, valence, dominance and class, the speaker in the file's name; no mean."""
    names = [f"{r}_{d}" for r, _ in EMOTALE_RATERS for d in ("A", "V", "D", "cat")]
    lines = [",".join(["file", *names, "gt_emotion"])]
    for language, speaker, code, level in (("DK", "001", "A", 4.0), ("DK", "001", "N", 2.5), ("EN", "001", "H", 4.0),
                                           ("DK", "003", "S", 2.0)):  # fmt: skip
        file = f"{language}_{speaker}_{code}_1.wav"
        write(root / "audio" / language / file)
        rated = [[f"{level + shift}", f"{3.0 + shift}", "3.0", code] for _, shift in EMOTALE_RATERS]
        lines.append(",".join([file, *(cell for cells in rated for cell in cells), code]))
    write(root / "annotations.csv", "\n".join(lines) + "\n")
    return root


def nemo(root: Path) -> Path:
    """NEMO: tab-separated, Polish text, speakers and genders, files in ``samples``."""
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    for speaker, gender, age in (("EB0", "female", 23), ("SB0", "male", 31)):
        for emotion in ("anger", "surprised"):
            write(root / "samples" / f"{speaker}_{emotion}_1.wav")
            cells = (f"{speaker}_{emotion}_1.wav", emotion, "Zażółć gęślą jaźń.", "zażółć gęślą jaźń", speaker, gender)
            lines.append("\t".join([*cells, str(age)]))
    write(root / "data.tsv", "\n".join(lines) + "\n")
    return root


def mosei(root: Path) -> Path:
    """CMU-MOSEI: sentiment of clips in a folder per video; clips of all videos have the same names."""
    lines = ["video_id,clip_id,text,label,label_T,annotation,mode"]
    for video, mode in (("-3g5yACwYnA", "train"), ("03bSnISJMiM", "valid"), ("0h-zjBukYpk", "test")):
        for clip, label in ((1, "-1.3333334"), (13, "2.0")):
            write(root / "wav" / video / f"{clip}.wav")
            lines.append(f'{video},{clip},"I see, twice",{label},1.0,Positive,{mode}')
    write(root / "label.csv", "\n".join(lines) + "\n")
    return root
