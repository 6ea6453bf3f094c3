"""Run every command of the command line, in this process and in the working folder, on material that was made before.

``python every_command.py MATERIAL [--quick]``; MATERIAL is what `make_material` made. Prints where layerprobe was
imported from and ``every command ran``, and imports every module; fails where a command does, or is not tried.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

NOT_RUN = {"demo", "distill", "serve", "synthesize"}  # a minute of commands that are run; without an end; aliases
FEW = ("--epochs", 1, "--hidden", 8, "--batch-size", 4)


def make_material(folder: Path, encoder: Path) -> Path:
    """A corpus of 24 voices with transcripts, small text and speech recognition models, and a tree of EMO-DB."""
    import soundfile
    from helpers.asr_models import save_ctc
    from helpers.corpus_trees import emo_db
    from helpers.text_models import SENTENCES, save_text_model
    from helpers.voices import voice, write_table

    rows: list[dict[str, object]] = []
    for i in range(24):
        soundfile.write(folder / f"s{i}.wav", voice(1.0, pitch=80 + 5 * i, seed=i), 16_000)
        text = SENTENCES[i % len(SENTENCES)]
        row = {"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i // 2}", "transcript": text}
        rows.append(row | {"arousal": 1 + i / 4, "valence": 1 + (i * 5 % 12) / 2})
    write_table(folder, rows, targets=("arousal", "valence"))
    save_text_model("distilbert", folder / "text")
    save_ctc(folder / "ctc")
    emo_db(folder / "emo-db")
    traces = [f"u{i},{k / 4},{i % 3 + k}" for i in range(12) for k in range(4)]
    (folder / "traces.csv").write_text("\n".join(["utterance_id,time,tension", *traces]), encoding="utf-8")
    (folder / "sentences.txt").write_text("\n".join(SENTENCES[:2]), encoding="utf-8")
    (folder / "speech").symlink_to(encoder)
    return folder


def quick_commands(material: Path) -> Iterator[tuple[object, ...]]:
    """Corpus to report: the commands of the README's first example, and what a wrong metric would show in."""
    table, speech = material / "my.csv", material / "speech"
    yield "manifest", "validate", table
    yield "manifest", "describe", table, "--out", "described"
    yield "extract", table, "--encoder", speech, "--out", "h.zarr"
    yield "sweep", "h.zarr", table, "--out", "runs/first", "--folds", 3, "--permutations", 5, "--weighted-sum-seeds", 1
    yield "heatmap", "runs/first"
    yield "report", "runs/first"


def all_commands(material: Path) -> Iterator[tuple[object, ...]]:
    """Every command, in an order in which each finds what it needs."""
    table, speech, text = material / "my.csv", material / "speech", material / "text"
    sweep = ("--folds", 3, "--permutations", 5, "--weighted-sum-seeds", 1)
    yield "manifest", "import", "emo-db", material / "emo-db", "--out", "emo-db.csv"
    Path("new.csv").write_bytes(table.read_bytes())  # a table without a header
    yield "manifest", "init", "new.csv"
    yield from quick_commands(material)
    windows = ("--every", 0.5, "--window", 0.5)
    yield "manifest", "spans", "table", material / "traces.csv", table, *windows, "--out", "spans.csv"
    yield "extract", table, "--encoder", text, "--out", "t.zarr"
    yield "extract", table, "--encoder", speech, "--random-init", 0, "--out", "r.zarr"
    yield "sweep", "h.zarr", table, "--random-weights", "r.zarr", "--out", "runs/controlled", *sweep
    yield "check-encoder", "--encoder", speech
    yield "cache", "info", "h.zarr"
    yield "cache", "verify", "h.zarr"
    yield "cache", "repair", "h.zarr", table, "--encoder", speech
    yield "cache", "diff", "h.zarr", "h.zarr"
    yield "cache", "compact", "h.zarr"
    for shard in ("1/2", "2/2"):
        yield "extract", table, "--encoder", speech, "--out", "m.zarr", "--shard", shard
    yield "cache", "merge", "m.zarr", table
    yield "extract", table, "--encoder", speech, "--every", 0.25, "--window", 0.5, "--out", "w.zarr"
    yield "sweep", "w.zarr", table, "--by", "position", "--bins", 2, "--out", "runs/when", *sweep
    yield "time-map", "runs/when"
    yield "time-curve", "runs/when"
    yield "extract", table, "--encoder", "acoustic", "--out", "a.zarr"
    yield "sweep", "h.zarr", table, "--without", "loudness", "--concepts", "a.zarr", "--out", "runs/without", *sweep
    yield "erasure", "runs/without"
    for figure in ("curves", "layer-weights", "depth", "best-layer", "gain-over-random", "similarity"):
        yield figure, "runs/controlled"
    yield "sweep", "h.zarr", "r.zarr", table, "--out", "runs/two", *sweep
    yield "gain", "runs/two", "--against", "h.zarr"
    yield "table", "runs/controlled", "--format", "latex"
    yield "fuse", "h.zarr", "t.zarr", table, "--out", "runs/fused", *sweep
    yield "deploy", "runs/first", "--out", "models/avd"
    yield "predict", "models/avd", material / "s0.wav", "--out", "talk.csv"
    yield "export", "models/avd", "--out", "avd.onnx"
    yield "train", table, "--audio-encoder", speech, "--out", "runs/trained", *FEW
    yield "predict", "runs/trained", table, "--out", "ratings.csv"
    windows = ("--window", 0.5, "--hop", 0.25, "--figure", "trace.png")
    yield "predict", "runs/trained", material / "s0.wav", *windows, "--out", "trace.csv"
    yield "export", "runs/trained", "--out", "onnx"
    yield "compare", "runs/trained", "runs/fused", "--out", "compared"
    yield "cost", "runs/first", "runs/trained", "--seconds", 1
    yield "count-params", "--audio-encoder", speech, "--text-encoder", text
    few = ("--steps", 2, "--batch-size", 2, "--eval-every", 1)
    yield "distil", table, "--teacher", speech, "--blocks", 1, "--out", "student", *few
    yield "pretrain", table, "--config", speech / "config.json", "--out", "pretrained", "--units", 4, *few
    yield "synthesise", material / "sentences.txt", "--out", "spoken"
    yield "transcribe", table, "--asr", material / "ctc", "--out", "transcribed.csv"
    shared = Path("shared").absolute().as_uri()
    yield "push", "runs/controlled", shared
    yield "pull", shared, "--out", "pulled"
    yield "explain", "LP014"
    yield "asr-impact", "transcribed.csv", "--text-encoder", text, "--out", "runs/cost", "--folds", 3


def known_commands() -> set[tuple[str, ...]]:
    """Return every command that the command line has, as a tuple of its names."""
    import typer

    from layerprobe.cli.app import app

    def below(group: object, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in group.commands.items():  # type: ignore[attr-defined]
            if hasattr(command, "commands"):
                yield from below(command, (*names, name))
            else:
                yield (*names, name)

    return set(below(typer.main.get_command(app), ()))


def main(material: Path, *, quick: bool) -> None:
    """Run them; see that none was left out."""
    import layerprobe
    from layerprobe.cli.app import app

    print(layerprobe.__file__)
    commands = list((quick_commands if quick else all_commands)(material))
    tried = {tuple(str(w) for w in arguments[:n]) for arguments in commands for n in (1, 2)}
    missing = {arguments for arguments in known_commands() if arguments not in tried and arguments[0] not in NOT_RUN}
    if missing and not quick:
        raise SystemExit(f"never tried: {sorted(missing)}")
    for arguments in commands:
        code = app([str(w) for w in arguments], standalone_mode=False)
        if code:
            raise SystemExit(f"layerprobe {' '.join(map(str, arguments))} ended with {code}")
    names = [m.name for m in pkgutil.walk_packages(layerprobe.__path__, "layerprobe.") if "__main__" not in m.name]
    for name in names:
        importlib.import_module(name)
    print(f"every command ran, and {len(names)} modules are imported")


if __name__ == "__main__":
    main(Path(sys.argv[1]), quick="--quick" in sys.argv)
