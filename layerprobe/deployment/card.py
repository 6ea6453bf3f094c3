"""README.md of a predictor, written like a model card: what it is, how good, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from layerprobe.analysis.formatting import number_text, ranged, shown_name
from layerprobe.deployment.choice import ChosenLayer
from layerprobe.probe.encoders.embedded import OWN, embedded_folder
from layerprobe.probe.hub import find_file
from layerprobe.probe.predictors.folder import ENCODER, HEADS, PREDICTOR, PredictorPlan
from layerprobe.probe.predictors.heads import Head
from layerprobe.probe.version import layerprobe_version

README = "README.md"
NOT_STATED = "not stated"
CITED = (
    "Dunn, R., Wasserman, L. and Ramdas, A. (2023). Distribution-free prediction sets for two-layer hierarchical "
    "models. Journal of the American Statistical Association 118, 2491-2502.",
    "Lee, Y., Barber, R. F. and Willett, R. (2023). Distribution-free inference with hierarchical data. "
    "arXiv:2306.06342.",
)


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from."""

    plan: PredictorPlan
    corpus: dict[str, Any]  # table of the run's plan.toml
    chosen: tuple[ChosenLayer, ...]
    heads: tuple[Head, ...]
    scores: list[dict[str, Any]]  # of each target, as in predictor.toml
    groups: pd.DataFrame  # of `analysis.subgroups.scores_by_group`
    parameters: tuple[int, int]  # kept, and of the whole encoder
    licence: str  # of the weights; "" if it is not stated
    folder: str  # name of the predictor's folder


def weights_licence(source: str) -> str:
    """Return the licence that the card of an encoder states, such as ``apache-2.0``; empty if it states none.

    Args:
        source: what the encoder was loaded from: a folder, a hub name with its commit, or ``embedded``
    """
    if source == OWN:
        return _licence_in(embedded_folder() / README) or "apache-2.0"
    repository, _, revision = source.partition("@")
    path = Path(source) / README if Path(source).is_dir() else None
    if path is None and revision:  # a name of the hub; torchaudio's bundles and files of checkpoints have no card
        path = find_file(repository, README, revision=revision)
    return _licence_in(path) if path is not None else ""


def _licence_in(card: Path) -> str:
    from huggingface_hub import metadata_load

    try:
        header = metadata_load(card) or {}
    except Exception:  # of a file that is missing, no text, or whose header is no YAML
        return ""
    found = header.get("license_name") or header.get("license") or ""
    return str(found) if isinstance(found, str) else ""


def card(facts: CardFacts) -> str:
    """Return README.md in Markdown, with the header that the hub reads."""
    plan = facts.plan
    lines = ["library_name: layerprobe", *(f"base_model: {plan.upstream}" for _ in range(bool(plan.revision)))]
    lines += [f"license: {facts.licence}"] * bool(facts.licence)
    tags = "".join(f"- {tag}\n" for tag in ("layerprobe", "speech-emotion-recognition", "regression"))
    head = "---\n" + "\n".join(lines) + f"\ntags:\n{tags}---\n"
    return head + "\n\n".join(_sections(facts)) + "\n"


def _sections(facts: CardFacts) -> Iterator[str]:
    plan = facts.plan
    names = [shown_name(head.target) for head in facts.heads]
    yield f"# {_joined(names).capitalize()} of speech"
    yield (
        f"The first {plan.n_blocks} of {plan.n_blocks_of_whole} blocks of {_escaped(plan.upstream)}, with a linear "
        f"head for each rating. Made by layerprobe {layerprobe_version()}; fingerprint of the predictor "
        f"`{plan.fingerprint}`."
    )
    yield "## Use"
    yield _use(facts)
    yield "## Trained on"
    yield _trained_on(facts)
    yield "## Scores on unseen speakers"
    yield from _scores(facts)
    yield "## Intervals"
    yield _intervals(plan)
    yield "## Limits"
    yield "\n".join(f"- {text}" for text in _limits(facts))
    yield "## Licence of the weights"
    yield _licence(facts)
    yield "## References"
    yield "\n".join(f"- {text}" for text in CITED)


def _use(facts: CardFacts) -> str:
    name, rate = facts.folder, facts.plan.sampling_rate
    return (
        f"```\nlayerprobe predict {name} talk.wav --out ratings.csv\n```\n\n"
        f'```python\nimport layerprobe\n\nratings = layerprobe.load_predictor("{name}")(waveform, {rate})\n```\n\n'
        f"The encoder alone, in any tool that reads folders of transformers:\n\n"
        f"```python\nfrom transformers import AutoModel\n\n"
        f'encoder = AutoModel.from_pretrained("{name}/{ENCODER}")\n```\n\n'
        f"`{PREDICTOR}` states every choice, and `{HEADS}` holds the coefficients; nothing here is run as code."
    )


def _trained_on(facts: CardFacts) -> str:
    plan, corpus = facts.plan, facts.corpus
    kept, whole = facts.parameters
    rows = [
        ("corpus", " ".join(filter(None, [corpus["name"], corpus.get("version")]))),
        ("speakers, utterances", f"{plan.n_speakers}, {plan.n_utterances:,}"),
        ("run", f"{plan.run} (fingerprint)"),
        ("encoder", plan.upstream + (f", commit {plan.revision[:12]}" if plan.revision else "")),
        ("hash of its weights", plan.weights),
        ("blocks kept", f"{plan.n_blocks} of {plan.n_blocks_of_whole}"),
        ("parameters kept", f"{kept:,} of {whole:,} ({100 * kept / whole:.0f} %)"),
        ("input", f"audio, resampled to {plan.sampling_rate} Hz; channels: {plan.audio_channels}"),
    ]
    notes = f"\n\nThe corpus's own notes: {_escaped(str(corpus['notes']))}" if corpus.get("notes") else ""
    return table(("", ""), rows) + notes


def _scores(facts: CardFacts) -> Iterator[str]:
    rows = [
        (shown_name(c.target), c.layer, c.reason, ranged(row), f"± {number_text(head.half_width)}", _scale(row))
        for c, head, row in zip(facts.chosen, facts.heads, facts.scores, strict=True)
    ]
    yield (
        "Moment-matched CCC of the same probe on speakers that it was not fitted on, with 95 % confidence intervals "
        "over speakers. The heads in this folder are refitted on all speakers of the corpus, so they have no score of "
        "their own there."
    )
    yield table(("rating", "layer", "why this layer", "CCC", "prediction interval", "scale"), rows)
    yield "### By group"
    if facts.groups.empty:
        yield "The corpus names no groups, such as genders, of three or more speakers each: nothing is known of them."
        return
    found = facts.groups.to_dict("records")
    cells = [(shown_name(r["target"]), r["grouping"], r["group"], ranged(r), str(r["n_speakers"])) for r in found]
    yield table(("rating", "", "group", "CCC", "speakers"), cells)


def _scale(row: dict[str, Any]) -> str:
    return f"{row['lowest']:g} to {row['highest']:g}"


def _intervals(plan: PredictorPlan) -> str:
    level = f"{100 * plan.level:.0f} %"
    unit = plan.interval_unit
    held = {
        "speaker": "an utterance of a new speaker",
        "utterance": "a new utterance of the same speakers, since the run knows no speakers",
    }.get(unit, f"an utterance of a new {unit}")
    few = f" More than {level} can't be shown with {plan.n_calibrated} of them." if plan.level < 0.9 - 1e-9 else ""
    return (
        f"{level} of the time an interval holds the rating of {held}, where it is like those of the corpus: "
        f"half-widths are conformal, calibrated on held-out predictions for {plan.n_calibrated} {unit}s (Dunn, "
        f"Wasserman and Ramdas, 2023; Lee, Barber and Willett, 2023).{few} They are as wide for every utterance."
    )


def _limits(facts: CardFacts) -> Iterator[str]:
    plan = facts.plan
    yield (
        "Scores and intervals hold for speech like that of the corpus: its language, its recordings, and its way of "
        "speaking, be it acted or spontaneous. On other speech both can be off, and nothing here shows by how much."
    )
    yield "A rating is what listeners of that corpus would have perceived, on average; it is not what a speaker feels."
    yield "Ratings are not clipped: a prediction, and more so its interval, can lie outside the scale."
    yield (
        "Not for decisions about single persons, such as hiring, policing, border control, health or education: in the "
        "European Union inferring emotions at work and in education is prohibited (Regulation 2024/1689, article 5)."
    )
    if plan.interval_unit == "utterance":
        yield "The run knows no speakers, so its scores may be too optimistic for new ones."


def _licence(facts: CardFacts) -> str:
    upstream = _escaped(facts.plan.upstream)
    if facts.licence:
        return (
            f"{_escaped(facts.licence)}, as the card of {upstream} states. The licence of the corpus is another matter."
        )
    return f"{NOT_STATED.capitalize()}: look at {upstream}. The licence of the corpus is another matter."


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    cells = [[_escaped(str(cell)).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(names), ["---"] * len(names), *cells])


def _escaped(text: str) -> str:
    """Return text of a corpus or an encoder's name so that Markdown shows it as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
