"""Compare scores and costs of the candidates of one or several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from layerprobe.analysis.cost.candidates import Candidates, read_candidates
from layerprobe.analysis.cost.file import cost_path, write_cost
from layerprobe.analysis.cost.table import cost_table, sources_of
from layerprobe.probe.cost.settings import SECONDS, Measuring, check_cost
from layerprobe.probe.progress import NullProgress
from layerprobe.probe.results.run_folder import Run


def cost(  # noqa: PLR0913 - each is a choice that a caller can make
    runs: Run | Path | str | Sequence[Run | Path | str],
    *,
    metric: str | None = None,
    by: str = "multiply_adds",
    seconds: int = SECONDS,
    threads: int = 1,
    folders: Mapping[str, Path | str] | None = None,
    benchmark: bool = True,
    out: Path | str | None = None,
    progress: NullProgress | None = None,
) -> pd.DataFrame:
    """Compare score and cost of each layer, mix, fusion and trained regressor, and return them as one table.

    Multiply-adds and parameters are counted from configurations; real-time factors are measured on this machine, on
    the CPU in one process, with the encoders' own weights or random ones, on which the time does not depend. A layer
    needs what comes before the first block and the blocks up to it, a mix all blocks.

    Args:
        runs: run folders of sweeps, fusions and trainings, whose candidates are compared on the utterances that all
            runs held out
        metric: a key of `METRIC_NAMES`; moment-matched CCC if None, or unweighted average recall where no target is
            rated
        by: cost that decides which candidate is the cheapest: ``multiply_adds``, ``parameters`` or
            ``real_time_factor``
        seconds: duration of the audio that costs are counted and measured for, 1 to 30; text has 3.5 tokens a second
        threads: of torch, 1 or more
        folders: of encoders by their names, where they are no longer where the run found them
        benchmark: whether real-time factors are measured
        out: folder for ``cost.csv``; nothing is written if None
        progress: receives a message for each step

    Returns:
        the columns of `analysis.cost.table.COLUMNS`, a row per candidate and target

    Raises:
        InputError: if a folder is no run, runs can't be compared, or an argument is wrong
    """
    measuring = Measuring(seconds, threads, is_timed=benchmark, folders=dict(folders or {}))
    check_cost(by)
    given = [runs] if isinstance(runs, Run | Path | str) else list(runs)
    candidates = read_candidates([run.path if isinstance(run, Run) else run for run in given], metric)
    found = compare_costs(candidates, by=by, measuring=measuring, progress=progress)
    if out is not None:
        write_cost(found, cost_path(Path(out), candidates.folders), fingerprint=candidates.fingerprint)
    return found


def compare_costs(
    candidates: Candidates, *, by: str, measuring: Measuring, progress: NullProgress | None = None
) -> pd.DataFrame:
    """Find the costs of candidates and return the table of `cost_table`; arguments as of `cost`."""
    from layerprobe.probe.cost.encoders import find_costs  # which imports torch
    from layerprobe.probe.cost.timing import processor_name

    sources = sources_of(candidates, measuring.folders)
    costs = find_costs(sources, measuring, progress=progress)
    measured = {"seconds": measuring.seconds, "threads": measuring.threads, "processor": processor_name()}
    (progress or NullProgress()).log("Comparing candidates over speakers …")
    return cost_table(candidates, costs, by=by, measured=measured)
