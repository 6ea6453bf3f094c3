"""Settings of an extraction, and the plan that follows from them and an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.data.inputs import MAX_DURATION
from layerprobe.probe.data.manifest.schema import TRANSCRIPT
from layerprobe.probe.data.reading import DEFAULT_READING, RESAMPLER, ReadingOptions
from layerprobe.probe.data.spans import SpanOptions
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.embedded import OWN
from layerprobe.probe.encoders.foreign_names import BUNDLE
from layerprobe.probe.encoders.loading import ACOUSTIC
from layerprobe.probe.encoders.speech import LAYER_CONVENTION
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.encoding.packs import packing
from layerprobe.probe.forward.pooling import pooling_named

STORAGE_DTYPES = ("float32", "float16")  # of embeddings on disk
LIBRARIES = ("torch", "transformers", "soxr", "soundfile")


@dataclass(frozen=True)
class ExtractionSettings:
    """What is pooled and stored of each utterance, and how many are processed in parallel; see `extract`."""

    poolings: tuple[str, ...] | None = None  # the encoder's default if None
    text_column: str = TRANSCRIPT
    storage_dtype: str = STORAGE_DTYPES[0]
    max_duration: float = MAX_DURATION  # seconds
    jobs: int | None = None  # one per core, or one on a GPU, if None; of a packed pass on the CPU, its threads
    loaders: int | None = None  # two on the CPU, one per core but one on a GPU, if None
    reading: ReadingOptions = DEFAULT_READING  # of audio
    batch_frames: int | None = None  # that a packed pass takes together; by the free memory if None
    spans: SpanOptions | None = None  # that are pooled in place of whole utterances


DEFAULT_SETTINGS = ExtractionSettings()


def check_parallelism(encoder: AnyEncoder, settings: ExtractionSettings) -> None:
    """Check that each option of parallelism has an effect on how an encoder runs.

    Raises:
        InputError: if one has none
    """
    packs = packing(encoder) is not None
    if settings.batch_frames is not None and not packs:
        raise InputError(
            "LP433",
            f"{encoder.upstream} encodes utterances one at a time here (forward pass: {encoder.forward}), so that "
            "--batch-frames has no effect. Leave it out, or use --forward packed if check-encoder names such a pass.",
        )
    if settings.jobs is not None and packs and encoder.device != "cpu":
        raise InputError(
            "LP433",
            "A GPU encodes one pack of utterances after another, so that --jobs has no effect. Leave it out; "
            "--batch-frames sets how much runs together, and --loaders how many threads read.",
        )


def extraction_plan(encoder: AnyEncoder, settings: ExtractionSettings = DEFAULT_SETTINGS) -> ExtractionPlan:
    """Return the plan under which ``encoder`` fills a cache.

    Raises:
        InputError: if a pooling or the storage dtype is unknown, or spans are not possible with the other choices
    """
    if settings.spans is not None:
        _check_spans(encoder, settings)
    if settings.storage_dtype not in STORAGE_DTYPES:
        raise InputError(
            "LP431", f"storage dtype {settings.storage_dtype!r} is unknown; choose {' or '.join(STORAGE_DTYPES)}."
        )
    poolings = settings.poolings or encoder.default_poolings
    for name in poolings:
        pooling_named(name)
    return ExtractionPlan(
        upstream=encoder.upstream,
        revision=encoder.revision,
        architecture=encoder.architecture,
        weights=encoder.weights_hash(),
        random_init=encoder.random_init,
        layers=encoder.layers,
        layer_convention=LAYER_CONVENTION,
        adapter=encoder.adapter,
        preprocessing=encoder.preprocessing,
        sampling_rate=encoder.sampling_rate if encoder.reads == "audio" else 0,
        resampler=RESAMPLER if encoder.reads == "audio" else "",
        audio_channels=settings.reading.channels_in_plan if encoder.reads == "audio" else "",
        end_silence=settings.reading.silence_in_plan if encoder.reads == "audio" else "",
        text_column=None if encoder.reads == "audio" else settings.text_column,
        chunking=encoder.chunking if encoder.reads == "audio" else encoder.windows,
        poolings=poolings,
        forward=encoder.forward,
        precision=encoder.precision,
        storage_dtype=settings.storage_dtype,
        libraries=", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in LIBRARIES),
        spans="" if settings.spans is None else settings.spans.in_plan,
    )


def _check_spans(encoder: AnyEncoder, settings: ExtractionSettings) -> None:
    if encoder.reads != "audio":
        raise InputError(
            "LP265",
            f"{encoder.upstream} reads text, whose tokens have no times, so that it has no spans. Leave --spans, "
            "--every and --window out.",
        )
    if settings.reading.trim_silence:
        raise InputError(
            "LP266",
            "--trim-silence moves the beginning of an utterance, from which the times of spans count. Leave it out.",
        )


def encoder_name_in(plan: ExtractionPlan, folder: str = "") -> str:
    """Return the name by which `load_encoder` finds a plan's encoder; empty for a folder that is not there.

    Args:
        plan: of a cache
        folder: absolute path that the cache records of a local encoder
    """
    if plan.revision:
        return f"{plan.upstream}@{plan.revision}"
    if plan.upstream in (OWN, ACOUSTIC) or plan.upstream.startswith(BUNDLE):
        return plan.upstream
    return folder if folder and Path(folder).exists() else ""


def gone_text(plan: ExtractionPlan, folder: str) -> str:
    """Return where a local encoder that is not there was extracted from, as the end of a sentence."""
    where = f", which is no longer at {folder}" if folder else ", whose path is not recorded"
    return f"was extracted from a folder called {plan.upstream}{where}"


def settings_in(plan: ExtractionPlan, spans: SpanOptions | None = None) -> ExtractionSettings:
    """Return the settings that lead to a plan again.

    Args:
        plan: of a cache
        spans: that were pooled; windows are known from the plan

    Raises:
        InputError: if the plan is of given intervals, and none are given here
    """
    if spans is None and plan.spans:
        spans = SpanOptions.from_plan(plan.spans)
    reading = ReadingOptions.from_plan(plan.audio_channels, plan.end_silence)
    return ExtractionSettings(
        plan.poolings, plan.text_column or TRANSCRIPT, plan.storage_dtype, reading=reading, spans=spans
    )
