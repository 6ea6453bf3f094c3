"""How commands end: by a signal, by a closed pipe, without any usable utterance, and with names of other encodings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.asr_models import save_ctc
from helpers.cache_rows import content_hash
from helpers.command_line import COMMAND, refused, run, script_environment
from helpers.foreign import FOREIGN
from helpers.planted import DIM, N, manifest_of, store
from helpers.speech_models import load_exact
from helpers.voices import voice, write_table

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.lease import leased_file, leased_folder

# The command sends a signal to itself when it has appended a row, or is about to rename a file, so often
SCRIPT = """
import os, signal, sys
from layerprobe.cli.app import main
from layerprobe.probe.cache.writer import CacheWriter

number, left, what = int(sys.argv.pop(1)), [int(sys.argv.pop(1))], sys.argv.pop(1)


def count():
    left[0] -= 1
    if left[0] == 0:
        for _ in range(1 + (number != signal.SIGINT)):  # twice at once, as a scheduler may
            os.kill(os.getpid(), number)


def on_rename(event, arguments):
    if event == "os.rename" and what in str(arguments[1]):
        count()


def append(self, *row, before=CacheWriter.append):
    before(self, *row)
    if what == "row":
        count()


CacheWriter.append = append
sys.addaudithook(on_rename)
main()
"""


@pytest.mark.parametrize(
    ("number", "code", "stated"), [(signal.SIGTERM, 143, "Ended by SIGTERM"), (signal.SIGINT, 130, "Interrupted")]
)
def test_a_signal_ends_an_extraction_with_its_rows_kept_and_its_lease_released(
    number, code, stated, ten_voices, folders, tmp_path, forks
):
    arguments = ["extract", ten_voices.path, "--encoder", folders["hubert"], "--precision", "float32"]
    arguments += ["--device", "cpu", "--out", tmp_path / "a.zarr"]
    done = forks.run(int(number), 6, "row", *arguments, code=SCRIPT)
    assert done.returncode == code, done.stderr
    assert f"{stated}. Completed work is saved; run the same command again to resume." in done.stderr
    assert "Traceback" not in done.stderr
    assert 6 <= len(open_cache(tmp_path / "a.zarr").utterance_ids) <= 10  # such as waited to be written, too
    assert not (tmp_path / "a.zarr" / "extraction" / "lease.json").exists()
    assert run(*arguments).exit_code == 0
    extract(ten_voices, load_exact(folders["hubert"]), tmp_path / "once.zarr")
    assert content_hash(tmp_path / "a.zarr") == content_hash(tmp_path / "once.zarr")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The arguments of a small sweep."""
    folder, rng = tmp_path_factory.mktemp("planted"), np.random.default_rng(0)
    x = rng.normal(size=(N, 3, DIM))
    soundfile.write(folder / "x.wav", voice(0.3), 16_000)
    manifest = manifest_of(x[:, 1, :2], folder / "my.csv")
    write_manifest(manifest.path, manifest.table, manifest.header)
    store(folder / "a.zarr", x, layers=("0", "1", "2"))
    return ["sweep", folder / "a.zarr", manifest.path, "--permutations", 1, "--weighted-sum-seeds", 0, "--jobs", 1]


def test_a_signal_ends_a_sweep_with_its_layers_kept_and_its_lease_released(planted, tmp_path, forks):
    out = tmp_path / "run"
    script = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n{SCRIPT}"  # not as under nohup
    done = forks.run(int(signal.SIGHUP), 2, "partial/", *planted, "--out", out, code=script)
    assert done.returncode == 129, done.stderr
    assert "Ended by SIGHUP. Completed work is saved" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((out / "partial").glob("*.npz"))) == 1  # the second was about to be renamed
    assert sorted(p.name for p in out.iterdir()) == [".lock", "partial"]
    assert run(*planted, "--out", out).exit_code == 0
    assert run(*planted, "--out", tmp_path / "once").exit_code == 0
    for name in ("scores.csv", "predictions.npz", "quarantine.csv"):
        assert (out / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_a_signal_that_is_ignored_stays_ignored(planted, tmp_path, forks):
    """As under nohup."""
    script = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{SCRIPT}"
    done = forks.run(int(signal.SIGHUP), 2, "partial/", *planted, "--out", tmp_path / "run", code=script)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "plan.toml").exists()


def test_a_second_command_is_refused_with_the_name_of_the_writer(planted, ten_voices, folders, tmp_path):
    stated = rf"is being written by another process ({os.getpid()} on "
    with leased_folder(tmp_path / "run"):
        assert f"{tmp_path / 'run'} {stated}" in refused(*planted, "--out", tmp_path / "run")
    few = ("--steps", 2, "--batch-size", 2, "--eval-every", 1)
    with leased_folder(tmp_path / "model"):
        for arguments in (
            ("distil", ten_voices.path, "--teacher", folders["hubert"], "--blocks", 1, *few),
            ("pretrain", ten_voices.path, "--config", folders["hubert"] / "config.json", "--units", 4, *few),
            ("train", ten_voices.path, "--audio-encoder", folders["hubert"], "--epochs", 1, "--hidden", 4),
        ):
            assert f"{tmp_path / 'model'} {stated}" in refused(*arguments, "--out", tmp_path / "model", "--quiet")
    assert not (tmp_path / "model").exists()
    with leased_file(tmp_path / "t.csv"):
        message = refused("transcribe", ten_voices.path, "--asr", "any", "--out", tmp_path / "t.csv", "--quiet")
        assert f"{tmp_path / 't.csv'} {stated}" in message
    assert not list(tmp_path.glob("*t.csv*"))


# closed pipes


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["manifest", "validate", "MANIFEST"]])
def test_a_closed_pipe_ends_a_command_without_a_word(arguments, ten_voices):
    """As `layerprobe … | true`; the exit code is that of cat."""
    filled = [str(ten_voices.path) if a == "MANIFEST" else a for a in arguments]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run([*COMMAND, *filled], stdout=closed, stderr=subprocess.PIPE, env=script_environment())
    assert (done.returncode, done.stderr) == (141, b"")


def test_progress_without_a_reader_ends_an_extraction_and_its_lease(ten_voices, folders, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["extract", ten_voices.path, "--encoder", folders["hubert"], "--out", tmp_path / "a.zarr"]
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run([*COMMAND, *arguments], stdout=closed, stderr=closed, env=script_environment())
    assert done.returncode == 141
    assert not (tmp_path / "a.zarr" / "extraction" / "lease.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["--help"], ["manifest", "validate", "MANIFEST"]])
def test_output_to_a_full_disk_is_one_sentence(arguments, ten_voices):
    filled = [str(ten_voices.path) if a == "MANIFEST" else a for a in arguments]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, *filled], stdout=full, stderr=subprocess.PIPE, env=script_environment())
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: No space left on device")
    assert done.stderr.count(b"\n") == 2


def ended(body):
    """Run a command with this body in a process of its own."""
    script = (
        "import os, typer\nfrom layerprobe.cli.options import user_command\n"
        f"@user_command\ndef command():\n    {body}\none = typer.Typer()\none.command()(command)\none()\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=script_environment())


def test_another_broken_pipe_is_an_error():
    """Of a connection, which is no output of the command."""
    done = ended("raise BrokenPipeError(32, 'Broken pipe')")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Broken pipe")


# nothing that can be used


@pytest.fixture
def silence(tmp_path):
    """A manifest of recordings that can't be used."""
    rows = [{"utterance_id": f"u{i}", "path": f"s{i}.wav", "speaker_id": f"t{i}", "arousal": 1 + i} for i in range(4)]
    for row in rows:
        soundfile.write(tmp_path / row["path"], np.zeros(8_000), 16_000)
    return write_table(tmp_path, rows)


@pytest.mark.parametrize("parallel", [(), ("--processes", 1)])
def test_an_extraction_without_any_usable_utterance_exits_with_2_and_names_the_table(
    silence, folders, tmp_path, parallel
):
    out = tmp_path / "a.zarr"
    result = run("extract", silence, "--encoder", folders["hubert"], "--out", out, *parallel)
    assert result.exit_code == 2, result.output
    assert "sweep" not in result.stdout + result.stderr
    quarantine = out / "extraction" / "quarantine.csv"
    assert (
        f"Error: none of the 4 utterances could be used. Next: read the column reason of {quarantine}" in result.stderr
    )
    assert quarantine.read_text().count("\n") == 5


def test_a_transcription_without_any_usable_utterance_writes_no_manifest(silence, tmp_path):
    message = refused("transcribe", silence, "--asr", save_ctc(tmp_path / "ctc"), "--quiet")
    assert message == "Error: none of the 4 utterances could be used. Correct the audio or the manifest. [LP860]"
    assert not list(tmp_path.glob("*transcribed*"))


# names


def test_an_argument_that_is_not_utf8_is_refused_at_once_in_one_sentence(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.csv"
    done = subprocess.run([*COMMAND, "manifest", "validate", name], capture_output=True, env=script_environment())
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"Error: '{tmp_path}/caf\\udce9.csv' has bytes that are not UTF-8")
    assert done.stderr.count(b"\n") == 2


def test_a_name_that_is_not_utf8_in_the_midst_of_a_command_is_one_sentence():
    """Such as that of a file in a folder that an importer lists."""
    done = ended(r"os.fsdecode(b'many/caf\xe9.wav').encode()")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "Error: a name near 'many/caf\\udce9.wav' has bytes that are not UTF-8. Rename the file"
    )
    assert done.stderr.count("\n") == 2


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_recorded_plan_that_is_something_else_is_one_sentence(tmp_path, kind):
    content, _ = FOREIGN[kind]
    (tmp_path / "plan.toml").write_bytes(content)
    message = refused("sweep", "--plan", tmp_path / "plan.toml", "--out", tmp_path / "run", "--quiet")
    assert message.startswith(f"Error: {tmp_path}/plan.toml ")
    assert "\n" not in message
