"""Completion in shells, each a real one: commands, options, their values, and files."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest
from helpers.command_line import ROOT, run, script_environment

from layerprobe.analysis.answer_formats import FORMATS
from layerprobe.cli.completion import CORPORA, VALUES
from layerprobe.figures.layout.presets import DEFAULT_WIDTHS, WIDTHS
from layerprobe.figures.plots.heatmap import CONTROLS as HEATMAP_CONTROLS
from layerprobe.probe.cost.settings import COSTS
from layerprobe.probe.data.importers.registry import IMPORTERS, SOURCES
from layerprobe.probe.data.reading import CHANNELS_IN_PLAN
from layerprobe.probe.data.shared_audio import DUPLICATES
from layerprobe.probe.data.traces.registry import TRACE_FORMATS
from layerprobe.probe.encoders.embedded import OWN
from layerprobe.probe.encoders.loading import ACOUSTIC
from layerprobe.probe.extraction.settings import STORAGE_DTYPES
from layerprobe.probe.forward.pooling import POOLINGS
from layerprobe.probe.forward.precision import FORWARDS, PRECISIONS
from layerprobe.probe.metrics import METRICS
from layerprobe.probe.pretraining.plans import MFCC
from layerprobe.probe.regressor.model import FRAME_POOLINGS, FUSIONS
from layerprobe.probe.regressor.plan import PRECISIONS as TRAINING_PRECISIONS
from layerprobe.probe.sweep.data.concepts import CONCEPTS
from layerprobe.probe.sweep.fits.mix_probes import MIXES
from layerprobe.probe.sweep.settings import PROBES
from layerprobe.probe.tasks.controls import CONTROLS
from layerprobe.probe.training.trackers import TRACKERS

CLOSED = {  # what checks a value, by the entry that completes it
    "by": COSTS,
    "channel": [name for name in CHANNELS_IN_PLAN if name],
    "corpus": [*IMPORTERS, *SOURCES],
    "duplicates": DUPLICATES,
    "encoder": [OWN, ACOUSTIC],
    "extract pooling": POOLINGS,
    "format": FORMATS,
    "forward": FORWARDS,
    "fusion": FUSIONS,
    "heatmap controls": HEATMAP_CONTROLS,
    "label_source": [MFCC],
    "layer_mixes": [*MIXES, "all"],
    "log_to": TRACKERS,
    "metric": METRICS,
    "precision": ["auto", *PRECISIONS],
    "probe": PROBES,
    "storage_dtype": STORAGE_DTYPES,
    "style": WIDTHS,
    "sweep controls": [*CONTROLS, "all"],
    "train pooling": FRAME_POOLINGS,
    "trace_format": TRACE_FORMATS,
    "train precision": TRAINING_PRECISIONS,
    "width": DEFAULT_WIDTHS,
    "without": CONCEPTS,
}
WITHOUT_A_LIST = {"covariate", "device", "pretrain precision", "sweep folds"}  # whose check is no dict


def test_what_completes_is_what_is_accepted():
    assert {name: sorted(VALUES[name]) for name in CLOSED} == {name: sorted(values) for name, values in CLOSED.items()}
    assert set(VALUES) == set(CLOSED) | WITHOUT_A_LIST
    help_of_import = " ".join(run("manifest", "import", "--help").stdout.replace("│", " ").split())
    assert [name for name in CORPORA if name not in help_of_import] == []


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A path with the command ``layerprobe``, in a home of its own."""
    folder = tmp_path_factory.mktemp("shell")
    command = folder / "layerprobe"
    command.write_text(f"#!{sys.executable}\nfrom layerprobe.cli.app import main\n\nmain()\n")
    command.chmod(0o755)
    (folder / ".bashrc").write_text("PS1='> '\n")  # short: a line that wraps is printed again
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return script_environment() | {"PATH": path, "HOME": str(folder), "TERM": "dumb"}


def printed(shell, script, environment):
    """What a script of a shell prints; the shell itself, which Typer looks for, is the parent of the command."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = [shell, *(["--norc"] if shell == "bash" else []), "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT / "docs", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


IN_BASH = """
eval "$(layerprobe --show-completion)"
complete_line() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _layerprobe_completion layerprobe
    echo "${COMPREPLY[*]}"
}
complete -p layerprobe
complete_line layerprobe cache ""
complete_line layerprobe manifest import ms
complete_line layerprobe manifest import hf my-dataset --he
complete_line layerprobe heatmap runs/first --metric c
complete_line layerprobe heatmap --controls ""
complete_line layerprobe extract ""
complete_line layerprobe extract my.csv --sp
complete_line layerprobe extract my.csv --spans ""
"""


def test_bash_completes_commands_options_and_values(environment):
    assert printed("bash", IN_BASH, environment).splitlines() == [
        "complete -o default -F _layerprobe_completion layerprobe",  # by default, the names of files
        "info verify repair diff merge compact",
        "msp-podcast msp-improv msp-conversation",
        "--help",
        "ccc_matched ccc",
        "condensed full",
        "",
        "--spans",
        "",
    ]


IN_ZSH = """
autoload -U compinit && compinit -D -u
eval "$(layerprobe --show-completion)"
_arguments() { echo "$@"; }  # which would ask the line editor of a terminal
complete_line() { words=("$@"); CURRENT=$#words; ${_comps[layerprobe]} }
complete_line layerprobe manifest import ms
complete_line layerprobe --he
"""


def test_zsh_completes_options_and_values(environment):
    assert printed("zsh", IN_ZSH, environment).strip().splitlines() == [
        '*: :(("msp-podcast" "msp-improv" "msp-conversation"))',
        '*: :(("--help":"Show this message and exit."))',
    ]


def test_fish_completes_with_descriptions_and_files(environment):
    script = (
        "layerprobe --show-completion | source\n"
        'complete -C "layerprobe heatmap --style "\n'
        'complete -C "layerprobe explain LP012"\n'
        'complete -C "layerprobe manifest validate manife"\n'
    )
    shown = printed("fish", script, environment).splitlines()
    assert shown == [
        "ieee",
        "interspeech",
        "nature",
        "slides",
        "LP012\tPenalty at the edge of its grid",
        "manifests.md",
    ]


def test_a_key_press_completes_a_corpus_and_a_file_after_installation(environment, tmp_path):
    """In an interactive bash on a terminal, as a user has it: installed, started anew, and the tab key pressed."""
    assert "bash completion installed" in printed("bash", "layerprobe --install-completion; true", environment)
    (tmp_path / "mine.csv").write_text("")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "-i"], environment)
    try:
        assert screen(terminal, b"", "> ").endswith("> ")
        assert "import crema-d" in screen(terminal, b"layerprobe manifest import cr\t", "import crema-d")
        os.write(terminal, b"\x15")  # clears the line
        assert "validate mine.csv" in screen(terminal, b"layerprobe manifest validate mi\t", "validate mine.csv")
    finally:
        os.close(terminal)  # which ends the shell
        os.waitpid(child, 0)


def screen(terminal, typed, expected):
    """What a terminal shows after something was typed, until it shows what is expected or a minute is over."""
    os.write(terminal, typed)
    shown, end = "", time.monotonic() + 60
    while expected not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


def test_completion_imports_no_stage(environment):
    code = (
        "import os, sys\n"
        "from layerprobe.cli.app import app\n"
        "try:\n    app([], prog_name='layerprobe')\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'numpy', 'matplotlib', 'zarr'} & set(sys.modules)))\n"
    )
    request = {
        "_LAYERPROBE_COMPLETE": "complete_bash",
        "COMP_CWORD": "3",
        "COMP_WORDS": "layerprobe\nmanifest\nimport\n",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment | request, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*CORPORA, "[]"]
