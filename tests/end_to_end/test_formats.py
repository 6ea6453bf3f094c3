"""docs/formats.md describes every file that a real run writes, every column of it, and nothing else."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from fnmatch import fnmatch

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import zarr
from helpers.command_line import run as command
from helpers.documented_formats import TYPES, differences, documented, fields_of, wrong_values
from helpers.every_command import make_material
from helpers.voices import voice

from layerprobe.probe.cache.lease import leased
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.extraction.extract import extract

COMPLETE = {"undocumented": [], "missing": []}
FEW = ("--steps", 2, "--batch-size", 2, "--eval-every", 1)


@pytest.fixture(scope="module")
def cache(folders, ten_voices, tmp_path_factory):
    """A cache in 16-bit precision, with all files that one can have, and utterances in quarantine and with remarks."""
    folder = tmp_path_factory.mktemp("caches")
    soundfile.write(folder / "silent-end.wav", np.concatenate([voice(1.0), np.zeros(32_000)]), 16_000)
    row = {"utterance_id": "silent-end", "path": str(folder / "silent-end.wav"), "speaker_id": "new", "arousal": 2}
    manifest = replace(ten_voices, table=pd.concat([ten_voices.table, pd.DataFrame([row])], ignore_index=True))
    return extract(manifest, load_encoder(str(folders["hubert"]), precision="bfloat16"), folder / "hubert.zarr")


@pytest.fixture(scope="module")
def trained_models(folders, tmp_path_factory):
    """A trained regressor, a pretrained and a distilled encoder."""
    root = tmp_path_factory.mktemp("models")
    (root / "material").mkdir()
    material = make_material(root / "material", folders["hubert"])
    table, speech = material / "my.csv", material / "speech"
    for arguments in (
        ("train", table, "--audio-encoder", speech, "--out", root / "trained", "--epochs", 1, "--hidden", 8),
        ("pretrain", table, "--config", speech / "config.json", "--out", root / "pretrained", "--units", 4, *FEW),
        ("distil", table, "--teacher", speech, "--blocks", 1, "--out", root / "distilled", *FEW),
    ):
        result = command(*arguments)
        assert result.exit_code == 0, result.output
    return root


def text_of(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def files_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def undocumented_files(folder, prefix):
    known = [f.removeprefix(prefix) for s in documented() for f in s.files if f.startswith(prefix)]
    names = (name.replace("-classes", "") for name in files_below(folder))
    return [name for name in names if not any(fnmatch(name, k) for k in known)]


def test_the_page_is_well_formed():
    for section in documented():
        for column in section.fields.values():
            assert column.type in TYPES or "(" in column.type, column
            assert column.since == "0.1", column


@pytest.mark.parametrize("kind", ["cache", "run", "trained", "pretrained", "distilled"])
def test_every_file_is_described(kind, cache, reported, trained_models):
    folder = {"cache": cache.path, "run": reported}.get(kind) or trained_models / kind
    prefix = {"cache": "NAME.zarr/", "run": "RUN/", "trained": "TRAINED/"}.get(kind, "ENCODER/")
    assert undocumented_files(folder, prefix) == []


def test_every_column_of_a_runs_tables_is_described_with_its_type_and_values(reported):
    tables = [name for name in files_below(reported) if name.endswith(".csv")]
    assert {"scores.csv", "layer_weights.csv", "quarantine.csv", "figures/heatmap.csv"} <= set(tables)
    described = [f for s in documented() for f in s.files]
    for name in tables:
        file = f"RUN/{name}" if f"RUN/{name}" in described else f"RUN/{name}".replace("-classes", "")
        table = text_of(reported / name)
        assert differences(file, list(table)) == COMPLETE, name
        assert wrong_values(file, table) == []


def test_the_parquet_scores_have_the_documented_types(reported):
    schema = pq.read_schema(reported / "scores.parquet")
    types = {"text": ("string", "large_string"), "integer": ("int",), "number": ("double", "float")}
    fields = fields_of("RUN/scores.parquet")
    assert differences("RUN/scores.parquet", schema.names) == COMPLETE
    for column in schema:
        assert str(column.type).startswith(types[fields[column.name].type]), column


def test_every_array_of_the_predictions_is_described(reported):
    with np.load(reported / "predictions.npz", allow_pickle=False) as file:
        assert differences("RUN/predictions.npz", file.files) == COMPLETE
        for name, column in fields_of("RUN/predictions.npz").items():
            if column.optional and name not in file:
                continue
            kind = {"text": "U", "float32": "f", "float64": "f", "int64": "i"}[column.type.split(" ")[0]]
            assert file[name].dtype.kind == kind, name
            assert column.type.count(",") - column.type.count(",)") + 1 >= file[name].ndim


def test_every_key_of_plan_and_findings_is_described(reported):
    plan = tomllib.loads((reported / "plan.toml").read_text())
    names = list(plan) + [f"{k}.{n}" for k, v in plan.items() if isinstance(v, dict) for n in v]
    names += [f"{k}.{n}" for k, v in plan.items() if isinstance(v, list) and v and isinstance(v[0], dict) for n in v[0]]
    of_extraction = {n.removeprefix("attributes.plan.") for n in fields_of("NAME.zarr") if "plan." in n}
    caches = ("encoders", "random_weights", "covariates")
    extra = {
        f"covariates.{n}"
        for n in ("layer", "name", "n_features", "n_utterances", "path", "fingerprint", "encoder_folder")
    }
    extra |= {f"random_weights.{n.removeprefix('covariates.')}" for n in extra}
    extra |= {f"{c}.{n}" for c in caches[1:] for n in ("rows_fingerprint", "held_out_fingerprint")} | {
        f"{c}.{n}" for c in caches for n in of_extraction
    }
    own = fields_of("RUN/plan.toml")
    assert differences("RUN/plan.toml", [n for n in names if n in own or n not in extra]) == COMPLETE
    content = json.loads((reported / "findings.json").read_text())
    names = list(content) + [f"findings.{key}" for key in dict.fromkeys(k for f in content["findings"] for k in f)]
    assert differences("RUN/findings.json", names) == COMPLETE
    allowed = fields_of("RUN/findings.json")["findings.name"].values
    assert {f["name"] for f in content["findings"]} <= set(allowed)


def test_every_array_and_attribute_of_a_cache_is_described(cache):
    group = zarr.open_group(cache.path, mode="r")
    arrays = {name: array for name, array in group.arrays()}
    fields = fields_of("NAME.zarr")
    assert set(arrays) <= set(fields)
    for name, array in arrays.items():
        dimensions = ", ".join(array.metadata.dimension_names or ())
        assert fields[name].type.endswith(f" ({dimensions})"), name
    attributes = {f"attributes.{name}" for name in group.attrs}
    attributes |= {f"attributes.plan.{name}" for name in group.attrs["plan"]}
    of_spans = {"attributes.plan.spans"}  # tests/cache/test_span_caches.py
    assert {n for n, f in fields.items() if "(" not in f.type} - of_spans == attributes


def test_tables_of_caches_and_trainings_are_described(cache, trained_models):
    described = [f for s in documented() for f in s.files if f.endswith(".csv") and not f.startswith("RUN/")]
    places = {"NAME.zarr": [cache.path], "TRAINED": [trained_models / "trained"]}
    places["ENCODER"] = [trained_models / "pretrained", trained_models / "distilled"]
    seen = set()
    for file in described:
        root, _, name = file.partition("/")
        for path in (p for folder in places.get(root, []) for p in folder.glob(name)):
            table = text_of(path)
            file = file if fields_of(file) else file.replace("TRAINED", "RUN")
            columns = ["TARGET" if c in ("arousal", "valence") else c for c in table]
            assert differences(file, columns) == COMPLETE, path
            assert wrong_values(file, table) == []
            seen.add(file)
    assert {f"NAME.zarr/extraction/{name}.csv" for name in ("quarantine", "audio_remarks", "precision_error")} <= seen


def test_journal_lease_and_regressor_have_the_documented_keys(cache, trained_models, tmp_path):
    with leased(tmp_path):
        lease = json.loads((tmp_path / "extraction" / "lease.json").read_text())
    assert differences("NAME.zarr/extraction/lease.json", list(lease)) == COMPLETE
    for line in (cache.path / "extraction" / "journal.jsonl").read_text().splitlines():
        assert differences("NAME.zarr/extraction/journal.jsonl", list(json.loads(line))) == COMPLETE
    generation = json.loads((cache.path / "extraction" / "generation.json").read_text())
    assert differences("NAME.zarr/extraction/generation.json", list(generation)) == COMPLETE
    content = json.loads((trained_models / "trained" / "regressor.json").read_text())
    assert differences("TRAINED/regressor.json", list(content)) == COMPLETE


def test_lines_of_a_training_and_the_list_of_a_repository_have_the_documented_keys(trained_models, reported, tmp_path):
    for folder in ("trained/seed-0", "pretrained"):  # the page refers from the second to the first
        lines = [json.loads(line) for line in (trained_models / folder / "log.jsonl").read_text().splitlines()]
        assert lines
        assert all(differences("TRAINED/seed-*/log.jsonl", list(line)) == COMPLETE for line in lines)
    assert list((trained_models / "trained" / "tensorboard" / "seed-0").glob("events.out.tfevents.*"))
    result = command("push", reported, f"file://{tmp_path}/pushed")
    assert result.exit_code == 0, result.output
    listing = json.loads((tmp_path / "pushed" / "layerprobe.json").read_text())
    assert differences("PUSHED/layerprobe.json", list(listing)) == COMPLETE
    assert listing["kind"] in fields_of("PUSHED/layerprobe.json")["kind"].values


def test_the_table_of_a_comparison_is_described(reported, tmp_path):
    result = command("compare", reported, "--out", tmp_path / "compared")
    assert result.exit_code == 0, result.output
    table = text_of(tmp_path / "compared" / "efficiency.csv")
    assert differences("COMPARED/efficiency.csv", list(table)) == COMPLETE
    assert wrong_values("COMPARED/efficiency.csv", table) == []
