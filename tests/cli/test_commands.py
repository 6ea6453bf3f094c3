"""The command line as a person meets it: results named, one clear sentence for each mistake, Ctrl-C."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers.command_line import COMMAND, ROOT, refused, run
from helpers.voices import voice, write_table

from layerprobe.cli.app import app
from layerprobe.cli.figures import FIGURES
from layerprobe.figures.draw import PLOTS, draw
from layerprobe.figures.report.report import write_report
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.sweep.settings import plan_sweep


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Forty utterances of twenty speakers with a manifest."""
    import soundfile

    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for i in range(40):
        soundfile.write(folder / f"s{i}.wav", voice(0.5, pitch=80 + 4 * i, seed=i), 16_000)
        row = {"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i % 20}", "arousal": 1 + i * 6 / 39}
        rows.append(row | {"valence": 1 + (i * 7) % 13 / 2})
    path = write_table(folder, rows, targets=("arousal", "valence"))
    header = path.with_suffix(".toml")
    header.write_text(header.read_text().replace('version = "1"', 'version = ""'))
    return path


@pytest.fixture(scope="module")
def finished(corpus, folders):
    """Run the four commands of the README on the corpus."""
    out = corpus.parent
    cache, folder = out / "hubert.zarr", out / "runs" / "first"
    results = [
        run("manifest", "validate", corpus),
        run("extract", corpus, "--encoder", folders["hubert"], "--out", cache),
        run("sweep", cache, corpus, "--out", folder),
        run("heatmap", folder),
    ]
    for result in results:
        assert result.exit_code == 0, result.output
    return cache, folder, results


def test_each_command_prints_its_result_and_the_next_command(finished, corpus):
    cache, folder, (check, extract, sweep, heatmap) = finished
    assert "40 utterances, 20 speakers: valid." in check.stdout
    assert "arousal: 40 ratings, mean 4.00" in check.stdout
    assert f"{cache}: 40 utterances extracted in" in extract.stdout
    assert f"Next: layerprobe sweep {cache} {corpus} --out runs/first" in extract.stdout
    assert f"{folder}:" in sweep.stdout
    assert f"Next: layerprobe heatmap {folder}" in sweep.stdout
    assert heatmap.stdout.split() == [str(folder / "figures" / f"heatmap.{e}") for e in ("png", "pdf", "svg", "csv")]
    assert all(Path(p).exists() for p in heatmap.stdout.split())


def test_curves_and_report_are_written(finished):
    _, folder, _ = finished
    assert run("curves", folder, "--metric", "pearson").exit_code == 0
    result = run("report", folder)
    assert result.exit_code == 0
    assert str(folder / "report.html") in result.stdout
    page = (folder / "report.html").read_text()
    assert re.search("<li>hubert (predicts|shows nothing of) arousal", page)
    assert "<h1>test: layer-wise probing</h1>" in page  # of a corpus without a version
    assert (folder / "findings.json").exists()


@pytest.mark.parametrize(
    ("name", "function", "names"),
    [
        ("sweep", plan_sweep, ("folds", "test_split", "weighted_sum_seeds", "seed", "permutations", "cross_corpus")),
        ("extract", load_audio_encoder, ("random_init", "adapter", "device", "precision")),
        ("extract", extract, ("text_column", "storage_dtype", "prune", "jobs")),
        ("check-encoder", load_audio_encoder, ("random_init", "adapter", "device", "precision")),
        ("heatmap", draw, ("metric", "width")),
        ("depth", draw, ("metric", "width")),
        ("report", write_report, ("metric",)),
    ],
)
def test_the_command_line_has_the_defaults_of_the_functions(name, function, names):
    commands = {c.name or c.callback.__name__: c.callback for c in app.registered_commands if c.callback}
    command = inspect.signature(commands[name]).parameters
    ours = inspect.signature(function).parameters
    assert {n: command[n].default for n in names} == {n: ours[n].default for n in names}


def test_every_figure_command_has_its_figure():
    assert {*FIGURES, "heatmap", "similarity", "gain", "cost"} == set(PLOTS)  # these have options of their own


def test_figures_have_the_requested_width(finished):
    _, folder, _ = finished
    result = run("best-layer", folder, "--width", "column")
    assert result.exit_code == 0, result.output
    svg = (folder / "figures" / "best-layer.svg").read_text()
    assert float(re.search(r'width="([\d.]+)pt"', svg).group(1)) == pytest.approx(3.5 * 72, abs=0.01)
    assert "width 'wide' is unknown; choose one of column, double" in refused("best-layer", folder, "--width", "wide")
    assert "No cache with random weights was swept" in refused("gain-over-random", folder)


def test_figures_over_time_are_of_runs_with_bins_of_time(finished, timed):
    _, folder, _ = finished
    for name in ("time-map", "time-curve"):
        result = run(name, timed, "--metric", "pearson", "--width", "double", "--style", "ieee")
        assert result.exit_code == 0, result.output
        assert (timed / "figures" / f"{name}.csv").exists()
        message = refused(name, folder)
        assert f"{folder} has no scores over time for these targets. Sweep a cache of spans" in message
        assert "LP795" in message


def test_the_figure_of_erasure_is_of_runs_without_concepts(finished, without_concepts):
    _, folder, _ = finished
    result = run("erasure", without_concepts, "--metric", "pearson", "--width", "double", "--style", "ieee")
    assert result.exit_code == 0, result.output
    assert set(pd.read_csv(without_concepts / "figures" / "erasure.csv")["metric"]) == {"pearson"}
    message = refused("erasure", folder)
    assert f"{folder} has no scores without a concept for these targets. Sweep with --without" in message
    assert "LP798" in message


def test_layers_are_compared_from_the_caches_of_the_run(finished, tmp_path):
    cache, folder, _ = finished
    result = run("similarity", folder)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(folder / "similarity.csv", dtype=str)
    assert {"cka", "cca", "rsa"} == set(table["measure"])
    assert (folder / "figures" / "similarity.svg").exists()
    moved = cache.rename(cache.with_name("moved.zarr"))
    try:
        assert f"{cache} is missing. Move the cache back there, or sweep again." in refused("similarity", folder)
    finally:
        moved.rename(cache)


def test_several_runs_are_plotted_side_by_side_if_they_can_be_compared(finished, corpus, folders, tmp_path):
    _, folder, _ = finished
    cache = tmp_path / "whisper.zarr"
    run("extract", corpus, "--encoder", folders["whisper"], "--out", cache)
    run("sweep", cache, corpus, "--out", tmp_path / "second")
    result = run("heatmap", folder, tmp_path / "second")
    assert result.exit_code == 0, result.output
    svg = (folder / "figures" / "heatmap-first-second.svg").read_text()
    assert ">hubert</text>" in svg
    assert ">whisper</text>" in svg
    run("sweep", cache, corpus, "--out", tmp_path / "third", "--folds", 4)
    assert "differ in their sweep, so their scores can't be compared" in refused("heatmap", folder, tmp_path / "third")


def test_a_control_is_sent_to_the_sweep_as_a_control(corpus, folders, tmp_path):
    out = tmp_path / "random.zarr"
    done = run("extract", corpus, "--encoder", folders["hubert"], "--random-init", 0, "--out", out)
    assert f"Next: layerprobe sweep TRAINED.zarr --random-weights {out} {corpus} --out" in done.stdout


def test_a_complete_cache_is_left_alone_and_quiet_prints_nothing(finished, corpus, folders):
    cache, _, _ = finished
    again = run("extract", corpus, "--encoder", folders["hubert"], "--out", cache)
    assert "0 utterances extracted" in again.stdout
    assert "40 were cached before" in again.stdout
    quiet = run("extract", corpus, "--encoder", folders["hubert"], "--out", cache, "--quiet")
    assert quiet.output == ""


def test_mistakes_are_one_sentence_with_a_remedy(finished, corpus, folders, tmp_path):
    cache, folder, _ = finished
    hubert = folders["hubert"]
    assert re.match(r"Error: .*no.csv does not exist\. Give", refused("manifest", "validate", tmp_path / "no.csv"))
    assert "no such folder" in refused("extract", corpus, "--encoder", "./no", "--out", tmp_path / "a.zarr")
    assert "pooling 'mode' is unknown; choose one of first_third" in refused(
        "extract", corpus, "--encoder", hubert, "--out", tmp_path / "a.zarr", "--pooling", "mode"
    )
    assert "Name another --out, or request what it holds" in refused(
        "extract", corpus, "--encoder", hubert, "--out", cache, "--pooling", "mean"
    )
    assert "is no cache of embeddings" in refused("sweep", tmp_path, corpus, "--out", tmp_path / "r")
    assert "has no target 'anger'" in refused("sweep", cache, corpus, "--out", tmp_path / "r", "--target", "anger")
    assert "can't be split into 50 speaker-disjoint folds" in refused(
        "sweep", cache, corpus, "--out", tmp_path / "r", "--folds", 50
    )
    assert "is no run folder" in refused("heatmap", tmp_path)
    assert "metric 'f1' is unknown; choose one of ccc_matched" in refused("heatmap", folder, "--metric", "f1")
    assert "holds another run" in refused("sweep", cache, corpus, "--out", folder, "--seed", 9)


def test_a_manifest_without_ratings_for_the_cache_is_one_sentence(finished, tmp_path, write_audio):
    cache, _, _ = finished
    write_audio("a.wav")
    other = write_table(tmp_path, [{"utterance_id": "x", "path": "a.wav", "speaker_id": "s", "arousal": 2}])
    assert "so there are no ratings to sweep" in refused("sweep", cache, other, "--out", tmp_path / "r")


def test_one_speaker_and_too_few_utterances_are_one_sentence(finished, corpus, tmp_path):
    cache, _, _ = finished
    table = pd.read_csv(corpus)
    table["path"] = [str(corpus.parent / p) for p in table["path"]]
    one = write_table(tmp_path, table.assign(speaker_id="me").to_dict("records"), targets=("arousal", "valence"))
    assert "1 speaker with 40 utterances can't be split into 5" in refused("sweep", cache, one, "--out", tmp_path / "r")
    three = write_table(tmp_path, table.head(3).to_dict("records"), targets=("arousal", "valence"))
    assert "3 speakers with 3 utterances can't be" in refused("sweep", cache, three, "--out", tmp_path / "r")


def test_unknown_speakers_need_a_word_and_the_run_remembers(corpus, folders, tmp_path):
    table = pd.read_csv(corpus).drop(columns="speaker_id")
    table["path"] = [str(corpus.parent / p) for p in table["path"]]
    path = write_table(tmp_path, table.to_dict("records"), targets=("arousal", "valence"))
    assert "column speaker_id is missing (--no-speakers runs without it" in refused("manifest", "validate", path)
    cache = tmp_path / "a.zarr"
    assert run("extract", path, "--encoder", folders["hubert"], "--out", cache, "--no-speakers").exit_code == 0
    assert run("sweep", cache, path, "--out", tmp_path / "r", "--no-speakers").exit_code == 0
    assert run("report", tmp_path / "r").exit_code == 0
    assert "No speakers were given" in (tmp_path / "r" / "report.html").read_text()
    named = write_table(tmp_path, table.assign(speaker_id="Unknown").to_dict("records"), targets=("arousal", "valence"))
    for command in (("sweep", cache, named), ("train", named)):
        assert "speaker_id Unknown" in refused(*command, "--out", tmp_path / "other")


def test_debug_shows_the_traceback(tmp_path):
    result = subprocess.run(
        [*COMMAND, "manifest", "validate", str(tmp_path / "no.csv"), "--debug"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_features_without_a_network_go_the_same_way(corpus, tmp_path):
    cache, folder = tmp_path / "acoustic.zarr", tmp_path / "runs" / "a"
    for arguments in (
        ("extract", corpus, "--encoder", "acoustic", "--out", cache),
        ("sweep", cache, corpus, "--out", folder, "--weighted-sum-seeds", 1),
        ("heatmap", folder),
        ("curves", folder),
        ("report", folder),
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    layers = pd.read_csv(folder / "scores.csv", dtype=str)["layer"].unique()
    assert {"log_mel", "mfcc", "f0", "loudness", "duration"} <= set(layers)
    arguments = ("extract", corpus, "--encoder", "acoustic", "--out", tmp_path / "b.zarr", "--random-init", 1)
    assert "acoustic features have no weights: --random-init can't be chosen. Leave that out." in refused(*arguments)
    assert "acoustic features have no network to check" in refused("check-encoder", "--encoder", "acoustic")


@pytest.mark.parametrize(
    "name",
    [
        ["manifest", "validate"], ["extract"], ["sweep"], ["check-encoder"], ["report"], ["similarity"], ["demo"],
        *([name] for name in FIGURES),
    ],
)  # fmt: skip
def test_help_of_every_command_has_an_example(name):
    result = run(*name, "--help")
    assert result.exit_code == 0
    assert f"Example: layerprobe {' '.join(name)}" in " ".join(result.stdout.split())


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(corpus, folders, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", mount], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        arguments = ("extract", corpus, "--encoder", folders["hubert"], "--out", mount / "a.zarr")
        assert "No space left on device. Free some disk space, then run the same" in refused(*arguments)
        subprocess.run(["mount", "-o", "remount,size=8m", mount], check=True)
        assert run(*arguments).exit_code == 0
        assert len(open_cache(mount / "a.zarr").utterance_ids) == 40
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


@pytest.mark.long
def test_ctrl_c_exits_with_130_and_the_same_command_goes_on(tmp_path, corpus, heeds_interrupts, forks):
    """Interrupted while the encoder works; what was finished is kept, to the utterance."""
    table = pd.read_csv(corpus)
    rows = [
        row | {"utterance_id": f"{row['utterance_id']}-{k}", "path": str(corpus.parent / row["path"])}
        for k in range(25)
        for row in table.to_dict("records")
    ]
    manifest = write_table(tmp_path, rows, targets=("arousal", "valence"))
    out = str(tmp_path / "a.zarr")
    arguments = ["extract", str(manifest), "--encoder", "embedded", "--random-init", "0", "--out", out]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
    journal = tmp_path / "a.zarr" / "extraction" / "journal.jsonl"
    deadline = time.monotonic() + 90
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)  # until the first block of 512 is whole
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted. Completed work is saved; run the same command again to resume." in errors
    assert "Traceback" not in errors
    before = len(open_cache(tmp_path / "a.zarr").utterance_ids)
    assert 512 < before < 1000  # more than the whole block: the partial one was saved, too
    done = forks.run(*arguments, module="layerprobe")
    assert done.returncode == 0, done.stderr
    assert f"{1000 - before} utterances extracted" in done.stdout
    assert len(set(open_cache(tmp_path / "a.zarr").utterance_ids)) == 1000
