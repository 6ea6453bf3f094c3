"""What a sweep in time changes: caches of spans are checked, read as utterances, and recorded with their bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Manifest
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.sweep.data.covariates import Covariate, LayerCovariate, TranscriptCovariate
from layerprobe.probe.sweep.data.inputs import SweepDataset, make_dataset, with_text_residuals
from layerprobe.probe.sweep.data.span_dataset import span_dataset
from layerprobe.probe.time.bins import BinPlan, plan_bins, read_label_classes
from layerprobe.probe.time.span_means import utterance_means
from layerprobe.probe.time.span_ratings import TARGETS, SpanRatings, read_span_ratings

InTime = BinPlan | SpanRatings
EXAMPLE = "layerprobe extract MANIFEST --encoder {encoder} --out SPANS.zarr --every 0.5 --window 1"


@dataclass(frozen=True)
class TimeOptions:
    """Options of a sweep in time, None where they are not given."""

    by: str | None = None
    bins: int | None = None
    bin_width: float | None = None
    label_classes: Path | None = None
    spans: Path | None = None
    lag: float | None = None


NOT_IN_TIME = TimeOptions()


def check_caches(caches: Sequence[Cache], *, in_time: bool) -> None:
    """Check that rows of caches are spans where a sweep is in time, and utterances where it is not.

    Raises:
        InputError: with the command that makes what is needed
    """
    for cache in caches:
        if in_time and cache.spans is None:
            example = EXAMPLE.format(encoder=cache.plan.upstream)
            raise InputError(
                "LP572", f"{cache.path} has a row for each utterance, and --by and --spans need spans: {example}"
            )
        if not in_time and cache.spans is not None:
            raise InputError(
                "LP573",
                f"{cache.path} has a row for each span of an utterance. Add --by position, onset or label for scores "
                "by time, or --spans SPANS.csv for ratings of spans.",
            )


def check_text(time: InTime | None, covariates: Sequence[Covariate], *, residualize_text: bool) -> None:
    """Check that a sweep over ratings of spans takes no transcripts, which `SpanRatings.manifest` leaves out.

    Args:
        time: bins or ratings of spans; None for a sweep of utterances
        covariates: of every layer
        residualize_text: whether residuals given the transcript are to be scored

    Raises:
        InputError: if it does
    """
    of_text = any(isinstance(one, TranscriptCovariate) for one in covariates)
    options = {"--residualize-text": residualize_text, f"--covariate {TRANSCRIPT}": of_text}
    given = next((option for option, is_given in options.items() if is_given), None)
    if isinstance(time, SpanRatings) and given is not None:
        raise InputError(
            "LP540",
            "With --spans ratings are of spans, and transcripts, which are of whole utterances, are left out. "
            f"Leave {given} out.",
        )


def caches_in_time(caches: Sequence[Cache], time: InTime | None) -> list[Cache]:
    """Return caches as a sweep reads them: of spans as caches of utterances where bins of time are probed.

    Raises:
        InputError: if rows are not what the sweep needs
    """
    check_caches(caches, in_time=time is not None)
    return [utterance_means(cache) for cache in caches] if isinstance(time, BinPlan) else list(caches)


def covariate_in_time(covariate: Covariate, time: InTime | None) -> Covariate:
    """Return a covariate as a sweep reads it; with bins of time it may be of utterances or spans.

    Raises:
        InputError: if rows of its cache are not what the sweep needs, or it is of transcripts and ratings are of spans
    """
    check_text(time, [covariate], residualize_text=False)
    if not isinstance(covariate, LayerCovariate):
        return covariate
    if isinstance(time, BinPlan):
        return replace(covariate, cache=utterance_means(covariate.cache))
    check_caches([covariate.cache], in_time=time is not None)
    return covariate


def dataset_in_time(
    caches: Sequence[Cache], manifest: Manifest, plan: SweepPlan, time: InTime | None
) -> tuple[SweepDataset, dict[str, Any]]:
    """Return the rows that are probed, utterances or rated spans, with the folds of the utterances.

    Args:
        caches: all of the sweep
        manifest: of the utterances
        plan: of the sweep
        time: bins or ratings of spans; None for a sweep of utterances

    Returns:
        the dataset, and of ratings of spans the table ``[time]`` of plan.toml
    """
    dataset = with_text_residuals(make_dataset([utterance_means(cache) for cache in caches], manifest, plan))
    if not isinstance(time, SpanRatings):
        return dataset, {}
    dataset, counts = span_dataset(dataset, caches, time, plan)
    return dataset, {**time.to_toml(), **counts}


def time_choice(options: TimeOptions, manifest: Manifest, recorded: Mapping[str, Any] | None = None) -> InTime | None:
    """Return what the options stand for; those that are not given are taken from a recorded sweep.

    Args:
        options: of the command line
        manifest: of the utterances
        recorded: the table ``[time]`` of a plan.toml

    Raises:
        InputError: if options exclude each other, or a table can't be read
    """
    recorded = recorded or {}
    kind = recorded.get("kind")
    if options.by is not None and options.spans is not None:
        raise InputError("LP574", "--by and --spans exclude each other: ratings are of utterances, or of spans.")
    by = options.by if options.by is not None or kind == TARGETS or options.spans is not None else kind
    of_bins = {"--bins": options.bins, "--bin-width": options.bin_width, "--label-classes": options.label_classes}
    if by is not None:
        if options.lag is not None:
            raise InputError("LP574", "--lag goes with --spans, which has ratings of spans. Leave it out.")
        same = BinPlan.from_toml(recorded) if kind == by else None
        classes = dict(same.classes) or None if same is not None else None
        if options.label_classes is not None:
            classes = read_label_classes(options.label_classes)
        bins, width = (same.n_bins or None, same.bin_width or None) if same is not None else (None, None)
        return plan_bins(
            by,
            bins=options.bins if options.bins is not None else bins,
            bin_width=options.bin_width if options.bin_width is not None else width,
            classes=classes,
        )
    given = next((name for name, value in of_bins.items() if value is not None), None)
    if given is not None:
        needed = {"--bins": "position", "--bin-width": "onset", "--label-classes": "label"}[given]
        raise InputError("LP574", f"{given} goes with --by {needed}. Add it.")
    table = options.spans if options.spans is not None else recorded.get("table")
    if table is None:
        if options.lag is not None:
            raise InputError("LP574", "--lag goes with --spans, which has ratings of spans. Add it, or leave it out.")
        return None
    lag = options.lag if options.lag is not None else float(recorded.get("lag", 0.0))
    return read_span_ratings(Path(str(table)), manifest, lag=lag)


def changed_time(recorded: Mapping[str, Any], time: InTime | None, path: Path) -> list[str]:
    """Return a sentence where bins or ratings of spans are not those of a recorded sweep.

    Args:
        recorded: the table ``[time]`` of a plan.toml, empty if it has none
        time: of the sweep that repeats it
        path: of the plan.toml
    """
    now = {} if time is None else time.to_toml()
    if now.get("fingerprint") == recorded.get("fingerprint"):
        return []
    same = all(now.get(name) == recorded.get(name) for name in ("kind", "table", "lag"))
    if same and now.get("kind") == TARGETS:
        return [f"Warning: {now['table']} has changed since {path} was written, so scores will differ."]
    return [f"time is {_shown(now)}, in place of {_shown(recorded)} in {path}"]


def _shown(content: Mapping[str, Any]) -> str:
    names = ("kind", "n_bins", "bin_width", "table", "lag")
    return ", ".join(f"{name} {content[name]}" for name in names if name in content) or "none"
