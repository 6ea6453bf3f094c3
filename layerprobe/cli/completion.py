"""Completion in shells: which values an option takes, listed here so that no stage is imported at the press of a key.

``layerprobe --install-completion`` sets it up for bash, zsh, fish and PowerShell. Commands and options complete by
themselves, and what is not listed here by the names of files. A test holds each list to the dict that checks the value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import get_args

import typer
from typer.models import ParameterInfo

CORPORA = (
    "msp-podcast", "iemocap", "msp-improv", "msp-conversation", "recola", "crema-d", "ravdess", "emo-db", "emobox",
    "audformat", "hf", "webdataset", "lhotse", "table",
)  # fmt: skip
METRICS = ("ccc_matched", "ccc", "pearson", "rmse", "r2", "uar", "macro_f1")
CONTROLS = ("permuted", "permuted_by_speaker", "permuted_within_speaker", "random_per_speaker")
MIXES = (
    "weighted_sum", "uniform_mix", "softmax_mix", "unstandardised_mix", "gradient_descent_mix", "cumulative_mix",
)  # fmt: skip
POOLINGS = ("mean", "std", "max", "min", "first_third", "last_third", "first_token", "normed_mean")

VALUES: dict[str, tuple[str, ...]] = {  # by parameter, or by command and parameter where commands differ
    "channel": ("first", "loudest", "mean"),
    "by": ("multiply_adds", "parameters", "real_time_factor"),
    "corpus": CORPORA,
    "covariate": ("transcript",),
    "device": ("cpu", "cuda"),
    "duplicates": ("group", "drop", "error"),
    "encoder": ("embedded", "acoustic"),
    "extract pooling": POOLINGS,
    "format": ("latex", "markdown", "csv"),
    "forward": ("auto", "single", "packed"),
    "fusion": ("concatenation", "gate", "cross_attention"),
    "heatmap controls": ("condensed", "full"),
    "label_source": ("mfcc",),
    "layer_mixes": (*MIXES, "all"),
    "log_to": ("wandb", "mlflow"),
    "metric": METRICS,
    "precision": ("auto", "float32", "tf32", "bfloat16", "float16"),
    "pretrain precision": ("float32", "bfloat16"),
    "probe": ("mlp", "mdl", "logistic"),
    "storage_dtype": ("float32", "float16"),
    "style": ("interspeech", "ieee", "nature", "slides"),
    "sweep controls": (*CONTROLS, "all"),
    "sweep folds": ("speakers",),
    "train pooling": ("attentive", "mean_std", "mean"),
    "train precision": ("auto", "float32", "bfloat16"),
    "without": ("loudness", "f0", "duration", "gender", "speech_rate", "text", "speaker"),
    "trace_format": ("msp-conversation", "recola", "table"),
    "width": ("column", "double"),
}


def complete_values(app: typer.Typer) -> None:
    """Let the shell complete the values of all options and arguments that `VALUES` lists, those of groups, too."""
    for command in app.registered_commands:
        if command.callback is None:
            continue
        name = command.name or command.callback.__name__
        for parameter in inspect.signature(command.callback).parameters.values():
            for info in get_args(parameter.annotation)[1:]:
                if isinstance(info, ParameterInfo):
                    info.autocompletion = _completer(name, parameter.name)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            complete_values(group.typer_instance)


def _completer(command: str, parameter: str) -> Callable[[str], list[str] | list[tuple[str, str]]] | None:
    """Return the function that Typer calls with what was typed of a value; None completes the names of files."""
    if parameter == "code":
        return _codes
    values = VALUES.get(f"{command} {parameter}", VALUES.get(parameter))
    return None if values is None else lambda incomplete: [v for v in values if v.startswith(incomplete)]


def _codes(incomplete: str) -> list[tuple[str, str]]:
    """Return the codes of messages, each with its title, in lower case where one is typed so."""
    from layerprobe.probe.code_pages import codes, read_page

    found = [code for code in codes() if code.startswith(incomplete.upper())]
    return [(code.lower() if incomplete.islower() else code, read_page(code).title) for code in found]
