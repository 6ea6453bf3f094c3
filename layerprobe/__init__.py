"""Layer-wise probing of speech and text encoders for emotion ratings.

The names in ``__all__`` are the public interface, imported when they are first used, so that ``import layerprobe``
loads neither torch nor pandas. Everything else is private and may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerprobe.analysis.corpus import describe as describe
    from layerprobe.analysis.cost.compare import cost as cost
    from layerprobe.analysis.findings.collect import collect_findings as collect_findings
    from layerprobe.analysis.findings.records import Finding as Finding, read_findings as read_findings
    from layerprobe.analysis.model_comparison import compare as compare
    from layerprobe.analysis.similarity.cca import ridge_cca as ridge_cca
    from layerprobe.analysis.similarity.cka import debiased_cka as debiased_cka
    from layerprobe.analysis.similarity.rsa import rsa as rsa
    from layerprobe.analysis.study import Study as Study, study as study
    from layerprobe.deployment.deploy import deploy as deploy
    from layerprobe.figures.draw import draw as draw
    from layerprobe.figures.public import (
        best_layer as best_layer,
        curves as curves,
        depth as depth,
        erasure as erasure,
        gain as gain,
        gain_over_random as gain_over_random,
        heatmap as heatmap,
        layer_weights as layer_weights,
        similarity as similarity,
        time_curve as time_curve,
        time_map as time_map,
    )
    from layerprobe.figures.report.report import write_report as write_report
    from layerprobe.probe import metrics as metrics
    from layerprobe.probe.cache.store import Cache as Cache, open_cache as open_cache
    from layerprobe.probe.data.importers.registry import ImportOptions as ImportOptions, import_corpus as import_corpus
    from layerprobe.probe.data.manifest.read import read_manifest as read_manifest
    from layerprobe.probe.data.manifest.schema import Manifest as Manifest
    from layerprobe.probe.data.manifest.write import write_manifest as write_manifest
    from layerprobe.probe.data.spans import SpanOptions as SpanOptions
    from layerprobe.probe.encoders.loading import load_encoder as load_encoder
    from layerprobe.probe.exceptions import InputError as InputError
    from layerprobe.probe.extraction.extract import extract as extract
    from layerprobe.probe.extraction.sklearn_api import LayerEmbedder as LayerEmbedder
    from layerprobe.probe.prediction.predict import predict as predict
    from layerprobe.probe.predictors.onnx import export_predictor as export_predictor
    from layerprobe.probe.predictors.predictor import Predictor as Predictor, load_predictor as load_predictor
    from layerprobe.probe.pretraining.distil import distil as distil
    from layerprobe.probe.pretraining.pretrain import pretrain as pretrain
    from layerprobe.probe.pretraining.settings import (
        DistilOptions as DistilOptions,
        PretrainOptions as PretrainOptions,
    )
    from layerprobe.probe.regressor.onnx import export_onnx as export_onnx
    from layerprobe.probe.regressor.settings import (
        EncoderOptions as EncoderOptions,
        HeadOptions as HeadOptions,
        OptimiserOptions as OptimiserOptions,
    )
    from layerprobe.probe.regressor.train import train as train
    from layerprobe.probe.results.run_folder import Run as Run, read_run as read_run
    from layerprobe.probe.solvers.sklearn_api import LayerRidge as LayerRidge
    from layerprobe.probe.splits import SpeakerKFold as SpeakerKFold
    from layerprobe.probe.sweep.settings import plan_sweep as plan_sweep
    from layerprobe.probe.sweep.sweep import sweep as sweep
    from layerprobe.probe.time.bins import plan_bins as plan_bins
    from layerprobe.probe.time.peak_span import peak_span as peak_span
    from layerprobe.probe.time.span_ratings import read_span_ratings as read_span_ratings
    from layerprobe.probe.weighted_sum.sklearn_api import LayerWeightedSum as LayerWeightedSum
    from layerprobe.sharing.pull import pull as pull
    from layerprobe.sharing.push import push as push

    __version__: str

_MODULES = {  # of the public names; LayerRidge, LayerWeightedSum and LayerEmbedder need scikit-learn
    "analysis.corpus": ("describe",),
    "analysis.cost.compare": ("cost",),
    "analysis.findings.collect": ("collect_findings",),
    "analysis.findings.records": ("Finding", "read_findings"),
    "analysis.model_comparison": ("compare",),
    "analysis.similarity.cca": ("ridge_cca",),
    "analysis.similarity.cka": ("debiased_cka",),
    "analysis.similarity.rsa": ("rsa",),
    "analysis.study": ("Study", "study"),
    "deployment.deploy": ("deploy",),
    "figures.draw": ("draw",),
    "figures.public": (
        "best_layer", "curves", "depth", "erasure", "gain", "gain_over_random", "heatmap", "layer_weights",
        "similarity", "time_curve", "time_map",
    ),
    "figures.report.report": ("write_report",),
    "probe.cache.store": ("Cache", "open_cache"),
    "probe.data.importers.registry": ("ImportOptions", "import_corpus"),
    "probe.data.manifest.read": ("read_manifest",),
    "probe.data.manifest.schema": ("Manifest",),
    "probe.data.manifest.write": ("write_manifest",),
    "probe.data.spans": ("SpanOptions",),
    "probe.encoders.loading": ("load_encoder",),
    "probe.exceptions": ("InputError",),
    "probe.extraction.extract": ("extract",),
    "probe.extraction.sklearn_api": ("LayerEmbedder",),
    "probe.prediction.predict": ("predict",),
    "probe.predictors.onnx": ("export_predictor",),
    "probe.predictors.predictor": ("Predictor", "load_predictor"),
    "probe.pretraining.distil": ("distil",),
    "probe.pretraining.pretrain": ("pretrain",),
    "probe.pretraining.settings": ("DistilOptions", "PretrainOptions"),
    "probe.regressor.onnx": ("export_onnx",),
    "probe.regressor.settings": ("EncoderOptions", "HeadOptions", "OptimiserOptions"),
    "probe.regressor.train": ("train",),
    "probe.results.run_folder": ("Run", "read_run"),
    "probe.solvers.sklearn_api": ("LayerRidge",),
    "probe.splits": ("SpeakerKFold",),
    "probe.sweep.settings": ("plan_sweep",),
    "probe.sweep.sweep": ("sweep",),
    "probe.time.bins": ("plan_bins",),
    "probe.time.peak_span": ("peak_span",),
    "probe.time.span_ratings": ("read_span_ratings",),
    "probe.weighted_sum.sklearn_api": ("LayerWeightedSum",),
    "sharing.pull": ("pull",),
    "sharing.push": ("push",),
}  # fmt: skip
_MODULE_OF = {name: f"layerprobe.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "Cache",
    "DistilOptions",
    "EncoderOptions",
    "Finding",
    "HeadOptions",
    "ImportOptions",
    "InputError",
    "LayerEmbedder",
    "LayerRidge",
    "LayerWeightedSum",
    "Manifest",
    "OptimiserOptions",
    "Predictor",
    "PretrainOptions",
    "Run",
    "SpanOptions",
    "SpeakerKFold",
    "Study",
    "__version__",
    "best_layer",
    "collect_findings",
    "compare",
    "cost",
    "curves",
    "debiased_cka",
    "deploy",
    "depth",
    "describe",
    "distil",
    "draw",
    "erasure",
    "export_onnx",
    "export_predictor",
    "extract",
    "gain",
    "gain_over_random",
    "heatmap",
    "import_corpus",
    "layer_weights",
    "load_encoder",
    "load_predictor",
    "metrics",
    "open_cache",
    "peak_span",
    "plan_bins",
    "plan_sweep",
    "predict",
    "pretrain",
    "pull",
    "push",
    "read_findings",
    "read_manifest",
    "read_run",
    "read_span_ratings",
    "ridge_cca",
    "rsa",
    "similarity",
    "study",
    "sweep",
    "time_curve",
    "time_map",
    "train",
    "write_manifest",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name == "__version__":
        from layerprobe.probe.version import layerprobe_version

        found: Any = layerprobe_version()
    elif name == "metrics":
        found = import_module("layerprobe.probe.metrics")
    elif name in _MODULE_OF:
        found = getattr(import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module 'layerprobe' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
