"""The plan of a sweep: the choices that depend on the manifest, with their defaults and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.data.manifest.schema import TRANSCRIPT, Manifest
from layerprobe.probe.data.shared_audio import DUPLICATES
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.sweep_plan import SweepPlan
from layerprobe.probe.solvers.leave_group_out import choose_inner_selection
from layerprobe.probe.solvers.ridge import DEFAULT_ALPHAS
from layerprobe.probe.sweep.data.held_out import HeldOutUnits, HoldOut, hold_out
from layerprobe.probe.sweep.data.inputs import usable_rows
from layerprobe.probe.sweep.fits.mix_probes import DEFAULT_MIXES, MIXES
from layerprobe.probe.tasks.controls import CONTROLS, DEFAULT_CONTROLS, WITHOUT_SPEAKERS
from layerprobe.probe.tasks.cross_corpus import corpus_names
from layerprobe.probe.tasks.targets import residual_targets
from layerprobe.probe.weighted_sum.solver import DEFAULT_PENALTIES, WEIGHT_PENALTIES

DEFAULT_FOLDS = 5
DEFAULT_INNER_FOLDS = 4  # where the outer folds can't serve
DEFAULT_PERMUTATIONS = 239  # 20 m - 1 give an adjusted p of .05 in m tests: 12 of them, such as 4 targets of 3 encoders
SPEAKERS: Literal["speakers"] = "speakers"  # as many folds as there are speakers: leave one speaker out
SPEAKER_ID = "speaker_id"  # the column that folds hold out by default
PROBES = {
    "mlp": "a small network with one hidden layer: is the finding linear only?",
    "logistic": "multinomial logistic regression of nominal targets",
    "mdl": "bits that a layer saves in coding new speakers' ratings (Voita and Titov, 2020)",
}


def plan_sweep(  # noqa: PLR0913 - each is a choice that a user can make
    manifest: Manifest,
    *,
    targets: tuple[str, ...] = (),
    folds: int | Literal["speakers"] | None = None,
    test_split: str | None = None,
    group_by: str | None = None,
    allow_shared_speakers: bool = False,
    leave_one_out: bool = False,
    duplicates: str = "group",
    weighted_sum_seeds: int = 3,
    mixes: tuple[str, ...] = DEFAULT_MIXES,
    probes: tuple[str, ...] = (),
    seed: int = 0,
    controls: tuple[str, ...] | None = None,
    permutations: int = DEFAULT_PERMUTATIONS,
    residualize_text: bool | None = False,
    cross_corpus: bool = False,
    fused: bool = False,
    speakers: bool = True,
    same_speaker: tuple[str, ...] = (),
    device: str = "cpu",
    caches: Sequence[Cache] = (),
) -> SweepPlan:
    """Return the plan of a sweep of this manifest.

    Args:
        manifest: the ratings
        targets: rated or nominal targets to probe; all of the manifest's if empty
        folds: outer speaker-disjoint folds; ``"speakers"`` holds out one speaker after the other; None takes the
            manifest's split where it has one, else 5 folds
        test_split: the split that is held out; None takes ``test``, else ``test1``, else ``development``
        group_by: column of the manifest whose values folds hold out as a whole, such as session; no speaker is in
            two folds either. By default 5 folds, or as many as there are values if those are fewer.
        allow_shared_speakers: whether speakers may be in several values of ``group_by``, and so in several folds
        leave_one_out: as many folds as there are values of ``group_by``, or speakers
        duplicates: a key of `probe.data.shared_audio.DUPLICATES`: utterances with the same audio
        weighted_sum_seeds: number of seeds of the weighted sum; 0 leaves all mixes out
        mixes: keys of `probe.sweep.fits.mix_probes.MIXES`
        probes: keys of `PROBES`, in addition to ridge
        seed: of folds and permutations
        controls: keys of `probe.tasks.controls.CONTROLS`; None takes `probe.tasks.controls.DEFAULT_CONTROLS`, without
            speakers those of them that need none
        permutations: of the ratings by which chance is estimated; a p-value is at least 1 / (permutations + 1). Other
            controls have fewer, see `probe.tasks.controls.n_permutations_of`
        residualize_text: also score the residuals of rated targets given the transcript; None: if there are any
        cross_corpus: also train on each corpus of the manifest alone
        fused: also fit all encoders together
        speakers: False where every utterance counts as its own speaker
        same_speaker: decisions on names that look alike, with which the manifest was read
        device: where matrices are multiplied, cpu or cuda
        caches: those that will be swept; where there are as many folds as speakers or groups, these are counted over
            the utterances that all caches hold

    Raises:
        InputError: if a target, control, mix or probe is unknown, or a choice needs a split, transcripts, corpora or
            speakers that the manifest has not
    """
    if controls is None:
        controls = DEFAULT_CONTROLS if speakers else WITHOUT_SPEAKERS
    _check_names(("control", controls, CONTROLS), ("mix", mixes, MIXES), ("probe", probes, PROBES))
    _check_names(("choice for duplicates", (duplicates,), DUPLICATES))
    needs_speakers = [c for c in controls if c not in WITHOUT_SPEAKERS]
    if needs_speakers and not speakers:
        raise InputError(
            "LP511", f"control {needs_speakers[0]!r} needs speakers. Leave it out, or name them in the manifest."
        )
    described = (*manifest.targets, *manifest.header.nominal)
    unknown = [t for t in targets if t not in described]
    if unknown:
        raise InputError(
            "LP506", f"{manifest.path} has no target {unknown[0]!r}; its header describes {', '.join(described)}."
        )
    rated = tuple(t for t in targets or described if t in manifest.targets)
    nominal = tuple(t for t in targets or described if t in manifest.header.nominal)
    if "logistic" in probes and not nominal:
        raise InputError(
            "LP507", f"{manifest.path} has no target with classes for a logistic regression. Leave that probe out."
        )
    if permutations < 1:
        raise InputError("LP530", f"{permutations} permutations can't test anything. Ask for 1 or more.")
    has_text = bool(rated) and _has_transcripts(manifest)
    if residualize_text and not has_text:
        missing = "no transcripts" if rated else "no rated target"
        raise InputError(
            "LP540", f"{manifest.path} has {missing}, so there is nothing to residualize. Leave --residualize-text out."
        )
    if cross_corpus:
        corpus_names(manifest)
    group_by = None if group_by == SPEAKER_ID else group_by
    _check_protocol(folds, test_split, group_by, shared=allow_shared_speakers, leave_one_out=leave_one_out)
    if folds == SPEAKERS or leave_one_out or group_by:
        choice = HoldOut(rated, nominal, group_by or "", allow_shared_speakers, duplicates, test_split=None)
        units = _held_out_units(manifest, caches, choice)
        if folds == SPEAKERS or leave_one_out:
            units.check_folds(None)
            folds = units.n_units
        elif folds is None:
            folds = max(2, min(DEFAULT_FOLDS, units.n_units))
        units.check_folds(folds)
    n_folds, test_split = _held_out(manifest, folds, test_split)
    n_inner_folds = n_folds - 1 if n_folds is not None and n_folds > 2 else DEFAULT_INNER_FOLDS
    cached, usable = usable_rows(manifest.table, caches, rated, nominal)
    n_utterances = int((cached & usable).sum())
    return SweepPlan(
        targets=rated,
        n_folds=n_folds,
        test_split=test_split,
        group_by=group_by or "",
        shared_speakers=allow_shared_speakers,
        duplicates=duplicates,
        n_inner_folds=n_inner_folds,
        # once for all targets and layers, from the utterances that any target rates
        inner_selection=choose_inner_selection(n_inner_folds, n_utterances / (n_inner_folds + 1)),
        alphas=DEFAULT_ALPHAS,
        controls=controls,
        n_permutations=permutations,
        nominal=nominal,
        classes=tuple(manifest.header.nominal[t].classes for t in nominal),
        residuals=residual_targets(rated),
        text_residuals=rated if has_text and residualize_text is not False else (),
        cross_corpus=cross_corpus,
        fused=fused,
        probes=tuple(p for p in PROBES if p in probes),
        mixes=tuple(m for m in MIXES if m in mixes) if weighted_sum_seeds and rated else (),
        weighted_sum_seeds=tuple(range(weighted_sum_seeds)),
        mix_penalties=DEFAULT_PENALTIES,
        mix_weight_penalties=WEIGHT_PENALTIES,
        mix_iterations=60,
        seed=seed,
        speakers=speakers,
        same_speaker=same_speaker,
        device=device,
    )


def _check_names(*kinds: tuple[str, tuple[str, ...], Mapping[str, object]]) -> None:
    """Check names against those that are known; of each kind its own name, the names, and the known ones."""
    for kind, names, known in kinds:
        strange = [name for name in names if name not in known]
        if strange:
            raise InputError("LP531", f"{kind} {strange[0]!r} is unknown; choose from {', '.join(known)}.")


def _check_protocol(
    folds: object, test_split: str | None, group_by: str | None, *, shared: bool, leave_one_out: bool
) -> None:
    """Check choices of what is held out that exclude each other."""
    if shared and not group_by:
        raise InputError("LP532", "--allow-shared-speakers needs --group-by: without it, folds hold out speakers.")
    if leave_one_out and folds is not None:
        raise InputError(
            "LP532", "--leave-one-out and --folds exclude each other: it makes as many folds as there are groups."
        )
    if folds == SPEAKERS and group_by:
        raise InputError(
            "LP532", f"--folds speakers and --group-by {group_by} exclude each other. Use --leave-one-out."
        )
    if test_split is not None and (group_by or leave_one_out):
        name = f"--group-by {group_by}" if group_by else "--leave-one-out"
        raise InputError("LP532", f"{name} and --test-split exclude each other: folds hold out every group in turn.")


def _held_out_units(manifest: Manifest, caches: Sequence[Cache], choice: HoldOut) -> HeldOutUnits:
    """Return the units of the utterances that all caches hold and any target rates."""
    cached, usable = usable_rows(manifest.table, caches, choice.targets, choice.nominal)
    return hold_out(manifest.table[cached & usable].sort_values("utterance_id"), caches, choice)


def _held_out(manifest: Manifest, folds: int | None, test: str | None) -> tuple[int | None, str | None]:
    """Return the number of folds, or the split that is held out; the other is None."""
    if test is not None and folds is not None:
        raise InputError("LP532", "--folds and --test-split exclude each other: folds hold every speaker out in turn.")
    present = set(manifest.table["split"]) if "split" in manifest.table else set()
    if folds is not None or not (present or test is not None):
        return DEFAULT_FOLDS if folds is None else folds, None
    candidates = [test] if test is not None else ["test", "test1", "development"]
    held = next((t for t in candidates if t in present), None)
    if held is None:
        raise InputError("LP516", f"{manifest.path} has no split {' or '.join(map(str, candidates))}. Use --folds 5.")
    return None, held


def _has_transcripts(manifest: Manifest) -> bool:
    """Return whether any utterance has a transcript."""
    return TRANSCRIPT in manifest.table and bool((manifest.table[TRANSCRIPT].str.strip() != "").any())
