"""The choices of a sweep that depend on the manifest, settled and checked."""

from __future__ import annotations

from probe.controls import CONTROLS, DEFAULT_CONTROLS
from probe.errors import InputError
from probe.manifest import Manifest
from probe.mix_probes import DEFAULT_MIXES, MIXES
from probe.plan import SweepPlan
from probe.ridge import DEFAULT_ALPHAS
from probe.targets import residual_targets
from probe.weighted_sum import DEFAULT_PENALTIES

DEFAULT_FOLDS = 5
DEFAULT_INNER_FOLDS = 4  # where the outer ones can't serve
PROBES = {
    "mlp": "a small network with one hidden layer: is the finding linear only?",
    "logistic": "multinomial logistic regression of nominal targets",
    "description_length": "bits that a layer saves in telling new speakers' ratings (Voita and Titov, 2020)",
}


def plan_sweep(
    manifest: Manifest,
    *,
    targets: tuple[str, ...] = (),
    folds: int | None = None,
    test: str | None = None,
    mix_seeds: int = 3,
    mixes: tuple[str, ...] = DEFAULT_MIXES,
    probes: tuple[str, ...] = (),
    seed: int = 0,
    controls: tuple[str, ...] = DEFAULT_CONTROLS,
    speakers: bool = True,
    device: str = "cpu",
) -> SweepPlan:
    """Settle the choices that depend on the manifest.

    Args:
        manifest: what was rated
        targets: those to sweep, rated or nominal; all of the manifest's if empty
        folds: outer speaker-disjoint folds; None takes the manifest's split where it has one, else 5 folds
        test: the split that is held out; None takes ``test``, else ``test1``, else ``development``
        mix_seeds: of the weighted sum; 0 leaves all mixes out
        mixes: keys of `probe.mix_probes.MIXES`
        probes: beside ridge, of `PROBES`
        seed: of folds and permutations
        controls: keys of `probe.controls.CONTROLS`
        speakers: False where every utterance counts as its own speaker
        device: where matrices are multiplied, cpu or cuda

    Raises:
        InputError: if a target, control, mix or probe is unknown, or the split that is to be held out is not there
    """
    for kind, asked, known in (("control", controls, CONTROLS), ("mix", mixes, MIXES), ("probe", probes, PROBES)):
        strange = [name for name in asked if name not in known]
        if strange:
            raise InputError(f"{kind} {strange[0]!r} is unknown; choose all, or some of {', '.join(known)}.")
    needs_speakers = [c for c in controls if c != "permuted"]
    if needs_speakers and not speakers:
        raise InputError(f"control {needs_speakers[0]!r} needs speakers. Leave it out, or name them in the manifest.")
    described = (*manifest.targets, *manifest.header.nominal)
    unknown = [t for t in targets if t not in described]
    if unknown:
        raise InputError(f"{manifest.path} has no target {unknown[0]!r}; its header describes {', '.join(described)}.")
    rated = tuple(t for t in targets or described if t in manifest.targets)
    nominal = tuple(t for t in targets or described if t in manifest.header.nominal)
    if "logistic" in probes and not nominal:
        raise InputError(f"{manifest.path} has no target with classes for a logistic regression. Leave that probe out.")
    if test is not None and folds is not None:
        raise InputError("--folds and --test exclude each other: folds hold every speaker out in turn.")
    present = set(manifest.table["split"]) if "split" in manifest.table else set()
    if folds is None and (present or test is not None):
        candidates = [test] if test is not None else ["test", "test1", "development"]
        test = next((t for t in candidates if t in present), None)
        if test is None:
            raise InputError(f"{manifest.path} has no split {' or '.join(map(str, candidates))}. Use --folds 5.")
    else:
        folds = DEFAULT_FOLDS if folds is None else folds
    return SweepPlan(
        targets=rated,
        n_folds=folds,
        test=test,
        n_inner_folds=folds - 1 if folds is not None and folds > 2 else DEFAULT_INNER_FOLDS,
        alphas=DEFAULT_ALPHAS,
        controls=controls,
        n_permutations=5,
        nominal=nominal,
        classes=tuple(manifest.header.nominal[t].classes for t in nominal),
        residuals=residual_targets(rated),
        probes=tuple(p for p in PROBES if p in probes),
        mixes=tuple(m for m in MIXES if m in mixes) if mix_seeds and rated else (),
        weighted_sum_seeds=tuple(range(mix_seeds)),
        mix_penalties=DEFAULT_PENALTIES,
        mix_iterations=60,
        seed=seed,
        speakers=speakers,
        device=device,
    )
