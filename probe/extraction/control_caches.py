"""The controls that are caches: random weights of each encoder, and features without a network; found or made."""

from __future__ import annotations

from dataclasses import dataclass

from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.schema import TRANSCRIPT, Manifest
from layerprobe.probe.encoders.loading import OWN, load_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.progress import NullProgress

ACOUSTIC = "acoustic"


@dataclass(frozen=True)
class ControlCaches:
    """What stands beside the encoders under study."""

    random_weights: list[Cache]
    acoustic: list[Cache]  # one, or none where the caches under study hold it already


def control_caches(
    caches: list[Cache], manifest: Manifest, *, random_weights: list[Cache], progress: NullProgress | None = None
) -> ControlCaches:
    """Caches of random weights and of acoustic features for ``manifest``, beside the ones under study.

    They are called ``NAME-random-0.zarr`` and ``acoustic.zarr``. One that is there is gone on with, so that it holds
    every utterance; one that is not is extracted.

    Args:
        caches: under study
        manifest: what is to be heard
        random_weights: controls that are given already
        progress: receives the progress

    Raises:
        InputError: if an encoder can't be loaded again by what its cache says of it
    """
    progress = progress or NullProgress()
    given = {(c.plan.upstream, c.plan.layers) for c in random_weights}
    made = []
    for cache in caches:
        plan = cache.plan
        trained = plan.random_init is None and plan.upstream != ACOUSTIC
        if not trained or (plan.upstream, plan.layers) in given:
            continue
        path = cache.path.with_name(f"{cache.path.stem}-random-0.zarr")
        name = f"{plan.upstream}@{plan.revision}" if plan.revision else OWN if plan.upstream == OWN else ""
        if not name and not path.exists():
            adapter = " --adapter FILE" if plan.adapter else ""
            raise InputError(
                f"{cache.path} was extracted from a folder called {plan.upstream}, and where it lies is not known. "
                f"Make its control by layerprobe extract {manifest.path} --encoder FOLDER{adapter} --random-init 0 "
                f"--out {path}"
            )
        if name:
            progress.log(f"Random weights of {plan.upstream} → {path}")
            upstream = load_encoder(name, random_init=0, precision=plan.precision, show_download=False)
            text_column = plan.text_column or TRANSCRIPT
            extract(manifest, upstream, path, poolings=plan.poolings, text_column=text_column, progress=progress)
        made.append(open_cache(path))
    acoustic = []
    if not any(c.plan.upstream == ACOUSTIC for c in caches):
        path = caches[0].path.with_name(f"{ACOUSTIC}.zarr")
        progress.log(f"Features without a network → {path}")
        extract(manifest, load_encoder(ACOUSTIC), path, progress=progress)
        acoustic = [open_cache(path)]
    return ControlCaches([*random_weights, *made], acoustic)
