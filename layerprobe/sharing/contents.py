"""Which files of a run or a cache are pushed, which only when requested, and which never: one table for each.

Never pushed are audio, manifests, paths of the machine, and whatever layerprobe did not write. Ratings, and the ids of
utterances and speakers that come with them, are pushed with ``--with-predictions``; what is derived from single
transcripts with ``--with-transcripts``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

ALWAYS, NEVER = "always", "never"
WITH_PREDICTIONS, WITH_TRANSCRIPTS = "--with-predictions", "--with-transcripts"


@dataclass(frozen=True)
class Rule:
    """A kind of file, and whether it is pushed."""

    pattern: str  # of paths relative to the folder; * also matches slashes
    when: str  # `ALWAYS`, `NEVER`, or the option that includes it
    what: str  # what it holds; for files that stay, the reason


RUN_FILES = (
    Rule("plan.toml", ALWAYS, "every choice, without paths of the machine"),
    Rule("scores.parquet", ALWAYS, "scores of layers, one row per number, with types"),
    Rule("scores.csv", ALWAYS, "the same as text"),
    Rule("layer_weights.csv", ALWAYS, "weights of the mixes of layers"),
    Rule("quarantine.csv", ALWAYS, "reasons of utterances that could not be used, without paths and labels of spans"),
    Rule("findings.json", ALWAYS, "results with intervals and p-values"),
    Rule("similarity.csv", ALWAYS, "similarity of layers"),
    Rule("cost.csv", ALWAYS, "scores and costs of layers"),
    *(Rule(f"figures/*.{ending}", ALWAYS, "figures") for ending in ("png", "svg", "pdf")),
    Rule("figures/*.csv", ALWAYS, "data of the figures"),
    Rule("regressor.json", ALWAYS, "plan and prediction intervals of the trained regressor, without paths"),
    Rule("audio/*.json", ALWAYS, "configuration of the speech encoder"),
    *(
        Rule(f"text/{name}", ALWAYS, "configuration and tokenizer of the text encoder")
        for name in ("*.json", "*.model", "vocab.txt", "merges.txt", "chat_template.jinja")
    ),
    Rule("seed-*/model.safetensors", ALWAYS, "weights of the trained regressor"),
    Rule("seed-*/log.csv", ALWAYS, "losses and scores by epoch"),
    Rule("seed-*/log.jsonl", ALWAYS, "losses and scores by step"),
    Rule("predictions.npz", WITH_PREDICTIONS, "ratings, held-out predictions, and ids of utterances and speakers"),
    Rule("peak_spans.csv", WITH_PREDICTIONS, "held-out predictions of spans, with ids of utterances and speakers"),
    Rule("word_errors.csv", WITH_TRANSCRIPTS, "word errors by utterance, with ids of utterances and speakers"),
    Rule("report.html", NEVER, "names speakers and paths; layerprobe report makes it anew"),
    Rule("README.md", NEVER, "is written anew"),
    Rule("layerprobe.json", NEVER, "is written anew"),
    Rule("tensorboard/*", NEVER, "names the machine; seed-*/log.jsonl has the same numbers"),
    Rule("seed-*/wandb/*", NEVER, "names the machine"),
    Rule("seed-*/tracker-*.json", NEVER, "names a run of a tracker"),
    Rule("seed-*/last/*", NEVER, "checkpoint of an unfinished training"),
    Rule("seed-*/best/*", NEVER, "checkpoint of an unfinished training"),
    Rule("partial/*", NEVER, "results of an unfinished run"),
    Rule("*.partial", NEVER, "is being written"),
    Rule("*lease.json", NEVER, "of a process that writes"),
    Rule(".lock", NEVER, "of a process that writes"),
)
CACHE_FILES = (
    Rule("zarr.json", ALWAYS, "metadata and plan, without paths of the machine"),
    Rule("*/zarr.json", ALWAYS, "metadata of the arrays"),
    Rule("*/c/*", ALWAYS, "embeddings, ids, hashes of the utterances' audio, and times and labels of spans"),
    Rule("*/c", ALWAYS, "value of an array without dimensions"),
    Rule("extraction/journal.jsonl", ALWAYS, "digests of the blocks"),
    Rule("extraction/generation.json", ALWAYS, "state of the rows"),
    Rule("extraction/quarantine.csv", ALWAYS, "utterances that could not be used, with the names of their files alone"),
    Rule("extraction/precision_error.csv", ALWAYS, "measured error of 16-bit encoding"),
    Rule("extraction/audio_remarks.csv", ALWAYS, "remarks on the audio"),
    Rule("extraction/audio_hashes.csv", NEVER, "paths of audio files; is made anew"),
    Rule("extraction/repair.json", NEVER, "of a repair that was not finished"),
    Rule("extraction/lease.json", NEVER, "of a process that writes"),
    Rule("extraction/lock", NEVER, "of a process that writes"),
    Rule("*.partial", NEVER, "is being written"),
)
UNKNOWN = Rule("*", NEVER, "is no file of layerprobe")


@dataclass(frozen=True)
class Allowed:
    """What the user allows in addition to what is always pushed."""

    predictions: bool = False
    transcripts: bool = False

    def includes(self, rule: Rule) -> bool:
        """Return whether files of a rule are pushed."""
        granted = {ALWAYS: True, WITH_PREDICTIONS: self.predictions, WITH_TRANSCRIPTS: self.transcripts}
        return granted.get(rule.when, False)


def rule_of(path: str, rules: tuple[Rule, ...]) -> Rule:
    """Return the first rule whose pattern a relative path matches; `UNKNOWN` if none does."""
    return next((rule for rule in rules if fnmatchcase(path, rule.pattern)), UNKNOWN)
