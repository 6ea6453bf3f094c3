"""A run folder is whole or is not read: kills and full disks at each write, and damaged, cut and foreign files."""

from __future__ import annotations

import io
import os
import re
import resource
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.command_line import refused
from helpers.foreign import FOREIGN
from helpers.planted import DIM, N, manifest_of, quick, store

from layerprobe.analysis.statistics.word_error_rate import read_word_errors
from layerprobe.analysis.study import study
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.lease import leased_folder
from layerprobe.probe.progress import LogProgress
from layerprobe.probe.results.partial import PartialResults
from layerprobe.probe.results.run_folder import check_same_run, read_predictions, read_run, write_run
from layerprobe.probe.sweep.sweep import sweep

FILES = ("scores.csv", "scores.parquet", "layer_weights.csv", "quarantine.csv", "word_errors.csv", "predictions.npz")
READERS = ("heatmap", "curves", "layer-weights", "best-layer", "report", "similarity", "compare")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Two caches, and ratings and transcripts of which arousal is in layer 1 of the first."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("material")
    x = rng.normal(size=(N, 2, DIM))
    ratings = np.stack([x[:, 1] @ rng.normal(size=DIM), rng.normal(size=N)], axis=1)
    texts = {"transcript": ["a b"] * N, "asr_transcript": ["a c"] * N}
    manifest = manifest_of(ratings, folder / "my.csv", **texts)
    return [store(folder / f"{k}.zarr", x + k, layers=("0", "1"), weights=str(k)) for k in range(2)], manifest


@pytest.fixture(scope="module")
def runs(material):
    """A run of each cache: the same utterances, other scores."""
    caches, manifest = material
    return [
        sweep([c], manifest, quick(manifest, permutations=1), out=c.path.parent / f"run{c.path.stem}") for c in caches
    ]


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of the first run, which a test may break."""
    return shutil.copytree(runs[0].path, tmp_path / "run")


def content_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != ".lock"}


def all_of(folder):
    """Everything of a run that readers read; raises an InputError unless the run is whole."""
    run = read_run(folder)
    return run, read_predictions(folder), read_word_errors(folder, run.fingerprint)


# in the place of each file


@pytest.mark.parametrize("name", FILES)
def test_what_stands_in_the_place_of_a_file_is_named(folder, runs, name):
    path = folder / name
    whole = path.read_bytes()
    cases = {kind: (content, stated) for kind, (content, stated) in FOREIGN.items()}
    cases["cut"] = (whole[:-3], rf"was cut or edited: it has {len(whole) - 3} bytes, and was written with {len(whole)}")
    cases["halved"] = (whole[: len(whole) // 2], "was cut or edited: .*")
    cases["flipped"] = (
        whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:],
        "was changed since the run was written|belongs to.*",
    )
    if name != "quarantine.csv":  # empty in both
        stated = rf"belongs to run {runs[1].fingerprint}, not to {runs[0].fingerprint} of plan\.toml"
        cases["of another run"] = ((runs[1].path / name).read_bytes(), stated)
    for content, stated in cases.values():
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=rf"^{path} (?:{stated})\. Restore it, or run the command .* again\. \[LP\d{{3}}\]$"
        ):
            all_of(folder)
    path.unlink()
    with pytest.raises(InputError, match=rf"^{path} is missing\. Restore it, or run the command"):
        all_of(folder)
    path.write_bytes(whole)
    assert all_of(folder)[0].scores.equals(runs[0].scores)


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet", "predictions.npz", "plan.toml"])
def test_every_command_that_reads_a_run_names_the_file_in_one_sentence(folder, runs, name):
    kinds = iter([*FOREIGN.values()] * 2)
    for reader in READERS:
        content, stated = next(kinds)
        (folder / name).write_bytes(content)
        others = [runs[0].path] if reader == "compare" else []
        message = refused(reader, folder, *others, "--quiet")
        assert re.match(rf"^Error: {folder / name} {stated}\. [^\n]*\. \[LP\d{{3}}\]$", message), message


def test_edited_scores_are_refused(folder):
    path = folder / "scores.csv"
    path.write_text(path.read_text().replace("0.", "0.9", 1))
    with pytest.raises(InputError, match=r"scores\.csv was changed since the run was written\. Restore it"):
        read_run(folder)


@pytest.mark.parametrize("what", ["empty", "pointer", "page", "zeros", "cut everywhere", "another toml"])
def test_a_plan_that_is_no_whole_plan_is_named(folder, what):
    path = folder / "plan.toml"
    whole = path.read_bytes()
    if what == "cut everywhere":
        for n in [*range(1, len(whole) - 1, 97), *range(len(whole) - 200, len(whole) - 1)]:
            path.write_bytes(whole[:n])
            with pytest.raises(InputError, match=rf"^{path} .*[.] \[LP\d{{3}}\]$"):
                all_of(folder)
        return
    header = b'format_version = 1\ncorpus = "mine"\n[targets.arousal]\nminimum = 1\nmaximum = 7\n'
    content, stated = (header, r"does not list scores\.csv") if what == "another toml" else FOREIGN[what]
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=rf"^{path} {stated}.*\. Run the command that made the run again, .* anew\. \[LP\d{{3}}\]$"
    ):
        read_run(folder)


def test_a_folder_without_a_plan_is_unfinished_or_no_run(folder, tmp_path):
    (folder / "plan.toml").unlink()
    with pytest.raises(InputError, match=r"holds an unfinished run: it has no plan\.toml yet\. Run the same command"):
        read_run(folder)
    with pytest.raises(InputError, match=r"/no does not exist\. Give a run folder"):
        read_run(tmp_path / "no")
    (tmp_path / "other").mkdir()
    with pytest.raises(
        InputError, match=r"is no run folder: it has no plan\.toml\. Make one with layerprobe sweep\. \[LP\d{3}\]$"
    ):
        read_run(tmp_path / "other")


def test_a_folder_that_holds_another_run_by_now_is_refused(folder, runs):
    """A report of one run would state the scores of the other."""
    run = read_run(folder)
    shutil.rmtree(folder)
    shutil.copytree(runs[1].path, folder)
    message = rf"^{folder} was replaced by another run \({runs[1].fingerprint}, not {runs[0].fingerprint}\)"
    for read in (
        study,
        lambda r: read_predictions(folder, r.fingerprint),
        lambda r: read_word_errors(folder, r.fingerprint),
    ):
        with pytest.raises(InputError, match=message):
            read(run)


@pytest.mark.parametrize("missing", ["plan.toml", "scores.csv"])
def test_a_run_that_is_being_written_is_named_as_such(folder, missing):
    (folder / missing).unlink()
    with (
        leased_folder(folder),
        pytest.raises(InputError, match=rf"^{folder} is being written by another process\. Wait"),
    ):
        read_run(folder)


# writing


def rewritten(run, folder, *, errors=True):
    """Write a run that was read before into another folder."""
    predictions = read_predictions(run.path)
    tables = {"word_errors.csv": read_word_errors(run.path, run.fingerprint)} if errors else {}
    copy = replace(read_run(run.path), path=folder)
    return lambda: write_run(copy, predictions, tables)


def forked(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        except OSError as error:
            os._exit(error.errno)
        except BaseException:
            os._exit(255)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("before", ["nothing", "the same run", "an empty plan"])
def test_a_kill_before_any_write_leaves_a_whole_run_or_none(runs, tmp_path, before):
    """Every opening of a file to write, renaming and removal in the folder is counted, and stops the process once."""
    whole, killed = content_of(runs[0].path), 0
    for n in range(1, 100):
        folder = tmp_path / str(n)
        if before != "nothing":
            shutil.copytree(runs[0].path, folder)
        if before == "an empty plan":
            (folder / "plan.toml").write_bytes(b"")
        write, left = rewritten(runs[0], folder), [n]

        def count(event, args, folder=folder, left=left):
            opens = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if (opens or event in ("os.rename", "os.remove", "os.mkdir")) and str(folder) in str(args[0]):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def killed_in_time(count=count, write=write):
            sys.addaudithook(count)
            write()

        status = forked(killed_in_time)
        if status == 0:
            break
        assert os.WIFSIGNALED(status), status
        killed += 1
        if before == "the same run":
            assert content_of(folder).items() >= whole.items()  # the same bytes were written over
        else:
            with pytest.raises(InputError, match=r"unfinished run|plan\.toml is empty|does not exist|is no run folder"):
                all_of(folder)
        assert check_same_run(folder, runs[0].fingerprint) is None or before == "an empty plan"
        with leased_folder(folder):  # which removes what the killed process left
            write()
        assert content_of(folder) == whole
    assert killed >= 7 * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("before", ["nothing", "the same run"])
def test_a_disk_that_fills_up_at_any_byte_leaves_a_whole_run_or_none(runs, tmp_path, before):
    whole = content_of(runs[0].path)
    sizes = sorted({len(content) for content in whole.values()})
    assert len(sizes) == len(whole)
    for n, size in enumerate(sizes):
        folder = tmp_path / str(n)
        if before != "nothing":
            shutil.copytree(runs[0].path, folder)
        write = rewritten(runs[0], folder)

        def limited(size=size, write=write):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, size - 1))
            write()

        assert os.WEXITSTATUS(forked(limited)) == 27  # File too large, as a quota stated it
        assert not list(folder.glob("*.partial"))
        if before == "the same run":
            assert content_of(folder) == whole
        else:
            with pytest.raises(InputError, match=r"unfinished run|does not exist|is no run folder"):
                all_of(folder)
        write()
        assert content_of(folder) == whole


def test_the_same_command_overwrites_an_empty_or_cut_plan_and_reports_it(folder, material, runs):
    caches, manifest = material
    whole = content_of(runs[0].path)
    text = (folder / "plan.toml").read_bytes()
    plan = quick(manifest, permutations=1)

    for content, stated in ((b"", "is empty"), (text[:-9], "can't be read"), (b"\0" * 300, "holds zeros alone")):
        (folder / "plan.toml").write_bytes(content)
        printed = io.StringIO()
        sweep([caches[0]], manifest, plan, out=folder, progress=LogProgress(printed))
        line = rf"^{folder}/plan\.toml {stated}.*\. The run is written anew\.$"
        assert re.search(line, printed.getvalue(), re.MULTILINE)
        assert content_of(folder).items() == whole.items()
        (folder / "plan.toml").write_bytes(content)
        with pytest.raises(InputError, match=rf"holds another run \({runs[0].fingerprint}, not "):
            sweep([caches[1]], manifest, plan, out=folder)
    (folder / "plan.toml").write_bytes(FOREIGN["pointer"][0])
    for name in FILES:
        (folder / name).unlink()
    with pytest.raises(
        InputError, match=r"plan\.toml is a git-lfs pointer, .*\. Remove the folder, or name another --out"
    ):
        sweep([caches[0]], manifest, plan, out=folder)


def test_a_path_that_is_not_utf8_is_refused_before_any_work(material, tmp_path):
    caches, manifest = material
    name = tmp_path / os.fsdecode(b"caf\xe9.zarr")
    try:
        shutil.copytree(caches[0].path, name)
    except OSError:
        pytest.skip("no such names on this disk")
    with pytest.raises(InputError, match=r"caf\\udce9\.zarr' has bytes that are not UTF-8"):
        sweep([name], manifest, quick(manifest), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_sweeps_into_one_folder_are_one_and_a_refusal(material, tmp_path):
    caches, manifest = material
    with leased_folder(tmp_path / "run"):
        message = rf"run is being written by another process \({os.getpid()} on .*\)\. Wait for it to end\. \[LP440\]$"
        with pytest.raises(InputError, match=message):
            sweep([caches[0]], manifest, quick(manifest, permutations=1), out=tmp_path / "run")


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_partial_results_are_computed_again(material, runs, tmp_path, kind):
    caches, manifest = material
    results = PartialResults(tmp_path / "run", runs[0].fingerprint, sorted(manifest.table["utterance_id"]))
    name = results._file("test-none-layer-1")
    name.parent.mkdir(parents=True)
    name.write_bytes(FOREIGN[kind][0])
    sweep([caches[0]], manifest, quick(manifest, permutations=1), out=tmp_path / "run")
    assert content_of(tmp_path / "run") == content_of(runs[0].path)


def test_word_errors_that_are_not_of_the_run_are_refused(folder, runs):
    write = rewritten(runs[0], folder, errors=False)
    (folder / "plan.toml").unlink()
    write()
    assert not (folder / "word_errors.csv").exists()
    assert read_word_errors(folder, runs[0].fingerprint) is None
    shutil.copy(runs[0].path / "word_errors.csv", folder)
    with pytest.raises(InputError, match=r"word_errors\.csv does not belong to the run: plan\.toml does not list it"):
        read_word_errors(folder, runs[0].fingerprint)
