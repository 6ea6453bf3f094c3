"""Caches that serve as controls: each encoder with random weights, and acoustic features; resumed or extracted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from layerprobe.probe.cache.plan import ExtractionPlan
from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.manifest.schema import Manifest
from layerprobe.probe.data.reading import DEFAULT_READING
from layerprobe.probe.data.spans import SpanOptions, needs_file
from layerprobe.probe.encoders.loading import ACOUSTIC, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.control_spans import spans_of
from layerprobe.probe.extraction.extract import run_extraction
from layerprobe.probe.extraction.settings import ExtractionSettings, encoder_name_in, gone_text, settings_in
from layerprobe.probe.progress import NullProgress


@dataclass(frozen=True)
class ControlCaches:
    """The caches that the encoders under study are compared with."""

    random_weights: list[Cache]
    acoustic: list[Cache]  # one, or none where the caches under study include it


def control_caches(
    caches: list[Cache], manifest: Manifest, *, random_weights: list[Cache], progress: NullProgress | None = None
) -> ControlCaches:
    """Return caches of random weights and of acoustic features, in the folder of the caches under study.

    They are called ``NAME-random-0.zarr`` and ``acoustic.zarr``, that of spans ``NAME-acoustic.zarr``. An existing one
    is resumed, so that it has every utterance of the manifest; a missing one is extracted. Controls of a cache of spans
    hold its spans.

    Args:
        caches: under study
        manifest: the utterances
        random_weights: controls that exist already
        progress: receives the progress

    Raises:
        InputError: if an encoder is a folder whose path is not known, or can't be loaded again
    """
    progress = progress or NullProgress()
    existing = {(c.plan.upstream, c.plan.layers) for c in random_weights}
    controls = []
    for cache in caches:
        plan = cache.plan
        trained = plan.random_init is None and plan.upstream != ACOUSTIC
        if not trained or (plan.upstream, plan.layers) in existing:
            continue
        path = cache.path.with_name(f"{cache.path.stem}-random-0.zarr")
        name = encoder_name_in(plan, cache.encoder_folder)
        if not name and not path.exists():
            adapter = " --adapter FILE" if plan.adapter else ""
            raise InputError(
                "LP435",
                f"{cache.path} {gone_text(plan, cache.encoder_folder)}. Make its control by layerprobe extract "
                f"{manifest.path} --encoder FOLDER{adapter} --random-init 0 "
                f"--out {path}{_span_options(plan)}",
            )
        if name:
            progress.log(f"Random weights of {plan.upstream} → {path}")
            encoder = load_encoder(
                name, random_init=0, precision=plan.precision, forward=plan.forward_option, show_download=False
            )
            settings = replace(settings_in(plan, spans_of(cache)), storage_dtype="float32")
            run_extraction(manifest, encoder, path, settings, progress=progress)
        controls.append(open_cache(path))
    acoustic = []
    if not any(c.plan.upstream == ACOUSTIC for c in caches):
        spans = spans_of(caches[0])
        # of spans a cache for each, as there may be several of other spans in the folder
        name = ACOUSTIC if spans is None else f"{caches[0].path.stem}-{ACOUSTIC}"
        path = caches[0].path.with_name(f"{name}.zarr")
        progress.log(f"Acoustic features → {path}")
        audio = (settings_in(c.plan, spans_of(c)) for c in caches if c.plan.text_column is None)
        reading = next((found.reading for found in audio), DEFAULT_READING)
        settings = ExtractionSettings(reading=reading, spans=spans)  # the same samples as of the encoders under study
        run_extraction(manifest, load_encoder(ACOUSTIC), path, settings, progress=progress)
        acoustic = [open_cache(path)]
    return ControlCaches([*random_weights, *controls], acoustic)


def _span_options(plan: ExtractionPlan) -> str:
    """Return the options of ``extract`` for the spans of a plan, with a blank before them."""
    if not plan.spans:
        return ""
    if needs_file(plan.spans):
        return " --spans TABLE.csv"
    windows = SpanOptions.from_plan(plan.spans)
    return f" --every {windows.every:g} --window {windows.window:g}"
