"""Layer-wise probing of speech and text encoders for emotion ratings.

What stands here is the public interface, loaded when it is first asked for, so that ``import layerprobe`` loads no
torch. Everything below it is private and may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerprobe.figures.draw import draw as draw
    from layerprobe.figures.report.report import write_report as write_report
    from layerprobe.probe import metrics as metrics
    from layerprobe.probe.cache.store import Cache as Cache, open_cache as open_cache
    from layerprobe.probe.data.read import read_manifest as read_manifest
    from layerprobe.probe.data.write import write_manifest as write_manifest
    from layerprobe.probe.encoders.loading import load_encoder as load_encoder
    from layerprobe.probe.exceptions import InputError as InputError
    from layerprobe.probe.extraction.extract import extract as extract
    from layerprobe.probe.results.run_folder import Run as Run, read_run as read_run
    from layerprobe.probe.solvers.sklearn_api import LayerRidge as LayerRidge
    from layerprobe.probe.sweep.settings import plan_sweep as plan_sweep
    from layerprobe.probe.sweep.sweep import sweep as sweep
    from layerprobe.probe.weighted_sum.sklearn_api import LayerWeightedSum as LayerWeightedSum

_HOMES = {
    "Cache": "layerprobe.probe.cache.store",
    "InputError": "layerprobe.probe.exceptions",
    "LayerWeightedSum": "layerprobe.probe.weighted_sum.sklearn_api",  # these two need scikit-learn
    "LayerRidge": "layerprobe.probe.solvers.sklearn_api",
    "Run": "layerprobe.probe.results.run_folder",
    "draw": "layerprobe.figures.draw",
    "extract": "layerprobe.probe.extraction.extract",
    "load_encoder": "layerprobe.probe.encoders.loading",  # of speech, of text, or acoustic features
    "metrics": "layerprobe.probe.metrics:*",  # the module itself
    "open_cache": "layerprobe.probe.cache.store",
    "plan_sweep": "layerprobe.probe.sweep.settings",
    "read_manifest": "layerprobe.probe.data.read",
    "read_run": "layerprobe.probe.results.run_folder",
    "sweep": "layerprobe.probe.sweep.sweep",
    "write_manifest": "layerprobe.probe.data.write",
    "write_report": "layerprobe.figures.report.report",
}
__all__ = [
    "Cache",
    "InputError",
    "LayerRidge",
    "LayerWeightedSum",
    "Run",
    "draw",
    "extract",
    "load_encoder",
    "metrics",
    "open_cache",
    "plan_sweep",
    "read_manifest",
    "read_run",
    "sweep",
    "write_manifest",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'layerprobe' has no attribute {name!r}")
    home, _, own = _HOMES[name].partition(":")
    found = globals()[name] = import_module(home) if own == "*" else getattr(import_module(home), own or name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
