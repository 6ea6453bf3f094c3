"""The command deploy: which encoder and layers, what it writes, and what it refuses."""

from __future__ import annotations

import re
import shutil
import stat
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import refused, run
from helpers.documented_formats import differences, documented
from helpers.speech_models import KINDS, load_exact, save_model, small_model
from helpers.swept_voices import SweptVoices, swept_voices, write_voices
from huggingface_hub import metadata_load

import layerprobe as lp
from layerprobe.analysis.layers.sufficient import sufficient_layers
from layerprobe.deployment.deploy import STAGING, deploy
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.predictors.folder import PREDICTOR, read_predictor
from layerprobe.probe.results.run_folder import PREDICTIONS

NAMES = ("README.md", "encoder", "heads.safetensors", "predictor.toml")


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> SweptVoices:
    return swept_voices(tmp_path_factory.mktemp("voices"), mixes=("uniform_mix",), weighted_sum_seeds=1)


@pytest.fixture(scope="module")
def deployed(voices: SweptVoices, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A predictor with the layers that suffice, and what the command printed."""
    out = tmp_path_factory.mktemp("models") / "av"
    result = run("deploy", voices.run.path, "--out", out)
    assert result.exit_code == 0, result.output
    return out, result.stdout


def code_of(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    return caught.value.code


def test_each_target_has_the_smallest_sufficient_layer(voices: SweptVoices, deployed: tuple[Path, str]) -> None:
    folder, printed = deployed
    saved = read_predictor(folder)
    found = sufficient_layers(lp.study(voices.run), "hubert")
    assert {h.target: h.layers for h in saved.heads} == {t: (found[t].layer,) for t in ("arousal", "valence")}
    needed = max(int(one.layer) for one in found.values())
    assert saved.plan.n_blocks == max(1, needed)
    assert len(lp.load_predictor(folder).encoder.blocks) == saved.plan.n_blocks
    for target, one in found.items():
        row = next(row for row in saved.scores if row["target"] == target)
        assert row["estimate"] == pytest.approx(one.score)
        assert (row["ci_low"], row["ci_high"]) == (pytest.approx(one.ci_low), pytest.approx(one.ci_high))
        assert f"  {target}: layer {one.layer}, " in printed
    assert f"Next: layerprobe predict {folder} talk.wav --out ratings.csv\nNext: layerprobe serve {folder}" in printed


def test_the_folder_is_whole_and_readable_like_other_files(deployed: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = deployed
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == sorted(NAMES)
    (tmp_path / "other").write_text("")
    usual = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.is_file()} == {usual}


def test_every_file_and_key_is_described(deployed: tuple[Path, str]) -> None:
    folder, _ = deployed
    known = [f.removeprefix("PREDICTOR/") for s in documented() for f in s.files if f.startswith("PREDICTOR/")]
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in known)] == []
    content = tomllib.loads((folder / PREDICTOR).read_text())
    names = [*content, *(f"{table}.{key}" for table in ("targets", "scores") for key in content[table][0])]
    assert differences("PREDICTOR/predictor.toml", names) == {"undocumented": [], "missing": []}


def test_a_named_layer_a_mix_and_a_single_target(voices: SweptVoices, tmp_path: Path) -> None:
    options = ("--layer", "valence=uniform_mix", "--layer", "1")
    assert run("deploy", voices.run.path, "--out", tmp_path / "a", *options).exit_code == 0
    saved = read_predictor(tmp_path / "a")
    assert [head.layers for head in saved.heads] == [("1",), ("0", "1", "2", "3")]
    assert saved.plan.n_blocks == 3
    done = deploy(voices.run, tmp_path / "b", targets=["arousal"], layers=1)
    assert (done.plan.n_blocks, [head.target for head in done.heads]) == (1, ["arousal"])
    assert done.parameters[0] < done.parameters[1]


def test_a_front_end_alone_keeps_one_block(voices: SweptVoices, tmp_path: Path) -> None:
    done = deploy(voices.run, tmp_path / "p", layers=0)
    assert done.plan.n_blocks == 1
    assert lp.load_predictor(tmp_path / "p").layers == ("0",)


def test_the_card_is_one_of_the_hub_and_has_no_speaker_or_path(voices: SweptVoices, deployed: tuple[Path, str]) -> None:
    folder, _ = deployed
    text = (folder / "README.md").read_text()
    assert metadata_load(folder / "README.md") == {
        "library_name": "layerprobe", "tags": ["layerprobe", "speech-emotion-recognition", "regression"],
    }  # fmt: skip
    saved = read_predictor(folder)
    assert f"| run | {voices.run.fingerprint} (fingerprint) |" in text
    assert "| speakers, utterances | 10, 30 |" in text
    for head, row in zip(saved.heads, saved.scores, strict=True):
        score = f"{row['estimate']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})".replace("-", "−")
        assert re.search(rf"\| {head.target} \| {head.layers[0]} \| .* \| {re.escape(score)} \| ± ", text)
    for group in ("female", "male"):
        assert f"| arousal | gender | {group} | " in text
    assert "90 % of the time an interval holds the rating of an utterance of a new speaker" in text
    assert "Not stated: look at hubert." in text
    written = text + (folder / PREDICTOR).read_text() + (folder / "encoder" / "config.json").read_text()
    assert "anna" not in written
    assert str(voices.run.path.parent) not in written
    assert "/tmp" not in written


def test_the_licence_of_the_weights_is_that_of_their_card(voices: SweptVoices, tmp_path: Path) -> None:
    card = voices.encoder / "README.md"
    card.write_text("---\nlicense: mit\n---\nA model.\n")
    try:
        deploy(voices.run, tmp_path / "p", layers=1)
    finally:
        card.unlink()
    assert metadata_load(tmp_path / "p" / "README.md")["license"] == "mit"
    assert "mit, as the card of hubert states." in (tmp_path / "p" / "README.md").read_text()


def test_the_cut_encoder_is_extracted_like_any_other(
    voices: SweptVoices, deployed: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = deployed
    cut = extract(voices.manifest, load_exact(folder / "encoder"), tmp_path / "cut.zarr")
    assert len(cut.layers) == read_predictor(folder).plan.n_blocks + 1
    for layer in cut.layers:
        np.testing.assert_array_equal(cut.read_layer(layer), voices.cache.read_layer(layer))


@pytest.mark.parametrize("kind", KINDS)
def test_each_architecture_is_cut_for_other_tools(kind: str, tmp_path: Path) -> None:
    """With transformers alone, hidden states of the kept blocks are those of the whole model."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    from layerprobe.probe.encoders.examples import example_waveform
    from layerprobe.probe.encoders.loading import load_model
    from layerprobe.probe.predictors.cut import cut_encoder, save_encoder

    whole = small_model(kind)
    loaded = load_model(str(save_model(whole, tmp_path / "whole")))
    cut_encoder(loaded, 2)
    save_encoder(loaded, tmp_path / "cut")
    cut, report = AutoModel.from_pretrained(tmp_path / "cut", output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    inputs = AutoFeatureExtractor.from_pretrained(tmp_path / "cut")(
        example_waveform(0.5, sampling_rate=16_000), sampling_rate=16_000, return_tensors="pt"
    )
    parts = [model.encoder if kind == "whisper" else model for model in (whole, cut)]
    features = {n: value.double() if value.is_floating_point() else value for n, value in inputs.items()}
    with torch.inference_mode():  # in float32 sums differ with the order, which follows where in memory weights lie
        states = [part.double().eval()(**features, output_hidden_states=True).hidden_states for part in parts]
    for k in range(2):  # the last one of an encoder with a final norm has passed it
        torch.testing.assert_close(states[0][k], states[1][k], rtol=1e-12, atol=1e-12)
    sizes = [sum(p.numel() for p in model.parameters() if "masked" not in str(p)) for model in (whole, cut)]
    per_block = sum(p.numel() for p in loaded.family.blocks(parts[0])[2].parameters())
    decoder = (
        sum(p.numel() for n, p in whole.named_parameters() if n.startswith("decoder.")) if kind == "whisper" else 0
    )
    left = 4 * whole.config.d_model if kind == "whisper" else 0
    assert sizes[0] - sizes[1] == per_block + decoder - left


def test_a_second_run_replaces_the_same_and_leaves_another(voices: SweptVoices, tmp_path: Path) -> None:
    out = tmp_path / "p"
    deploy(voices.run, out, layers=1)
    heads = (out / "heads.safetensors").read_bytes()
    (out / "heads.safetensors").write_bytes(b"cut")
    (out / "model.onnx").write_bytes(b"of another command")
    deploy(voices.run, out, layers=1)
    assert (out / "heads.safetensors").read_bytes() == heads
    assert (out / "model.onnx").exists()
    assert "holds another predictor" in refused("deploy", voices.run.path, "--out", out, "--layer", 2)
    (out / PREDICTOR).write_text("format_version = ")
    (out / "model.onnx").unlink()
    deploy(voices.run, out, layers=2)
    assert read_predictor(out).heads[0].layers == ("2",)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    message = refused("deploy", voices.run.path, "--out", tmp_path / "notes", "--layer", 2)
    assert "has other files (first: a.txt)" in message
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["a.txt"]


def test_an_interrupted_run_leaves_no_predictor_and_the_next_one_completes_it(
    voices: SweptVoices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, moved, stop = tmp_path / "p", [], [0]
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if STAGING in self.parts and "partial" not in self.name:
            moved.append(self.name)
            if len(moved) == stop[0]:
                raise KeyboardInterrupt
        return replace(self, target)

    for stop[0] in (1, 4, 6):
        moved.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                deploy(voices.run, out, layers=1)
        assert not (out / PREDICTOR).exists()
    assert moved[-1] == PREDICTOR
    deploy(voices.run, out, layers=1)
    lp.load_predictor(out)
    assert not (out / STAGING).exists()


def test_weights_are_found_by_their_folder_and_others_are_refused(voices: SweptVoices, tmp_path: Path) -> None:
    moved = shutil.copytree(voices.encoder, tmp_path / "elsewhere")
    done = deploy(voices.run, tmp_path / "p", encoder=str(moved), layers=1)
    assert done.plan.upstream == "hubert"
    other = save_model(small_model("wavlm"), tmp_path / "wavlm")
    message = refused("deploy", voices.run.path, "--out", tmp_path / "q", "--encoder", other)
    assert re.search(r"wavlm has other weights than each encoder of .*: its hash is \w{16}, and the run has ", message)
    assert not (tmp_path / "q").exists()


def test_weights_that_changed_or_are_gone(tmp_path: Path) -> None:
    own = swept_voices(tmp_path)
    import torch

    model = small_model("hubert")
    with torch.no_grad():
        list(model.parameters())[-1].add_(0.01)
    save_model(model, own.encoder)
    assert code_of(lambda: deploy(own.run, tmp_path / "p", layers=1)) == "LP925"
    shutil.rmtree(own.encoder)
    assert code_of(lambda: deploy(own.run, tmp_path / "p", layers=1)) == "LP924"


def test_moved_caches_and_manifests(voices: SweptVoices, tmp_path: Path) -> None:
    folder = shutil.copytree(voices.run.path.parent, tmp_path / "old", ignore=shutil.ignore_patterns("h.zarr"))
    shutil.copytree(voices.cache.path, tmp_path / "moved.zarr")
    text = (folder / "run" / "plan.toml").read_text()
    (folder / "run" / "plan.toml").write_text(text.replace(str(voices.run.path.parent), "/gone"))
    message = refused("deploy", folder / "run", "--out", tmp_path / "p")
    assert "names the cache /gone/h.zarr of hubert, which is gone. Name it where it is now with --cache." in message
    options = ("--cache", tmp_path / "moved.zarr", "--layer", 1)
    message = refused("deploy", folder / "run", "--out", tmp_path / "p", *options)
    assert "names the manifest /gone/corpus/my.csv, which is gone." in message
    manifest = shutil.copytree(folder / "corpus", tmp_path / "elsewhere") / "my.csv"
    result = run("deploy", folder / "run", "--out", tmp_path / "p", *options, "--manifest", manifest)
    assert result.exit_code == 0, result.output
    other = extract(voices.manifest, load_encoder(str(voices.encoder), random_init=3), tmp_path / "other.zarr")
    assert code_of(lambda: deploy(folder / "run", tmp_path / "q", caches=[other], manifest=manifest)) in (
        "LP920",
        "LP921",
    )


def test_ratings_that_changed_are_refused(tmp_path: Path) -> None:
    own = swept_voices(tmp_path)
    table = own.manifest.path
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[2:]]))
    assert code_of(lambda: deploy(own.run, tmp_path / "p", layers=1)) == "LP902"


def test_a_run_without_its_predictions_is_refused(voices: SweptVoices, tmp_path: Path) -> None:
    pushed = (tmp_path / "pushed").as_uri()
    lp.push(voices.run.path, pushed)
    lp.pull(pushed, out=tmp_path / "pulled")
    caches, manifest = [voices.cache.path], voices.manifest.path
    assert not (tmp_path / "pulled" / PREDICTIONS).exists()
    assert code_of(lambda: deploy(tmp_path / "pulled", tmp_path / "p", caches=caches, manifest=manifest)) == "LP883"


def test_classes_and_unknown_names_are_refused(voices: SweptVoices, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "p")
    assert "has no ratings of 'anger'" in refused("deploy", voices.run.path, *out, "--target", "anger")
    assert "has no encoder 'hubart'; it has hubert." in refused("deploy", voices.run.path, *out, "--encoder", "hubart")
    assert "has no layer '9'" in refused("deploy", voices.run.path, *out, "--layer", 9)
    assert "is of no target that is deployed" in refused(
        "deploy", voices.run.path, *out, "--target", "arousal", "--layer", "valence=1"
    )
    assert "is not one layer for one target" in refused("deploy", voices.run.path, *out, "--layer", "valence=")
    message = refused("deploy", voices.run.path, *out, "--layer", "softmax_mix")
    assert "has no held-out predictions of arousal by softmax_mix of hubert" in message
    table = write_voices(tmp_path / "corpus", mood=lambda speaker, k: ("calm", "cross", "glad")[k])
    header = table.with_suffix(".toml")
    header.write_text(f'{header.read_text()}\n[targets.mood]\nclasses = ["calm", "cross", "glad"]\n')
    own = swept_voices(tmp_path, table=table, folds=3)
    assert "mood has classes, and a predictor gives ratings." in refused(
        "deploy", own.run.path, *out, "--target", "mood"
    )
    assert tomllib.loads((deploy(own.run, tmp_path / "p", layers=1).folder / PREDICTOR).read_text())["targets"]
