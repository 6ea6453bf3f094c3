"""Names of speakers and groups in a manifest: normalised, gaps recognised, names that look alike joined or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from layerprobe.probe.data.manifest.schema import NameRules
from layerprobe.probe.identities import SimilarNames, is_unknown, normalise_name, normalise_names, similar_names
from layerprobe.probe.problem import Problem
from layerprobe.probe.splits import UNKNOWN_SPEAKER
from layerprobe.probe.toml import toml_key, toml_value

SPEAKER = "speaker_id"
RULE_KEYS = ("same_names", "distinct_names", "known_names")  # of the header, each a table by column
ALL = "all"  # in place of lists: every pair of names that look alike


@dataclass(frozen=True)
class ResolvedNames:
    """The names of one column, as they count from here on."""

    names: list[str]  # of the rows
    unknown: dict[str, int] = field(default_factory=dict)  # rows of each spelling that counts as not known
    joined: dict[str, str] = field(default_factory=dict)  # names that another one replaces, and that one
    problems: tuple[Problem, ...] = ()
    n_changed: int = 0  # rows whose name was normalised


def resolve_names(
    written: Sequence[str], rules: NameRules, *, column: str, header_name: str, join: bool = True
) -> ResolvedNames:
    """Normalise the names of one column, recognise those that mean "not known", and join those that are one.

    Names that look alike are a problem where the rules do not decide on them.

    Args:
        written: the cells of the column, ``(n_rows,)``
        rules: what the header and the command line state about the column's names
        column: its name
        header_name: name of the header's file, for messages
        join: False where nothing depends on who speaks: names are normalised, but neither joined nor a problem

    Returns:
        the names, where one is not known `UNKNOWN_SPEAKER` for speakers and '' for groups
    """
    normal = normalise_names(written)
    n_changed = sum(a != b for a, b in zip(written, normal, strict=True))
    blank = UNKNOWN_SPEAKER if column == SPEAKER else ""
    gaps = {name for name in set(normal) if name not in rules.known and is_unknown(name)}
    unknown = Counter(name for name in normal if name in gaps)
    names = [blank if name in gaps else name for name in normal]
    if not join:
        return ResolvedNames(names, dict(unknown), n_changed=n_changed)
    same = _united(rules.same)
    problems = _contradictions(same, rules, set(names) - {blank}, column, header_name)
    if problems:
        return ResolvedNames(names, dict(unknown), problems=tuple(problems))
    joined = {name: group[0] for group in same for name in group[1:]}
    names = [joined.get(name, name) for name in names]
    different = {frozenset((joined.get(a, a), joined.get(b, b))) for g in rules.distinct for a, b in combinations(g, 2)}
    for similar in similar_names([name for name in names if name != blank]):
        open_pairs = [p for p in combinations(similar.names, 2) if frozenset(p) not in different]
        if not open_pairs or rules.similar == "distinct":
            continue
        if rules.similar == "same":
            kept = open_pairs[0][0]
            joined |= {b: kept for a, b in open_pairs if a == kept}
        else:
            problems.append(_question(_undecided(similar, open_pairs), column, header_name))
    names = [joined.get(name, name) for name in names]
    return ResolvedNames(names, dict(unknown), joined, tuple(problems), n_changed)


def read_rules(content: Mapping[str, Any], *, header_name: str) -> tuple[dict[str, NameRules], list[Problem]]:
    """Return the rules that a header states, by column, and a problem for each that can't be read.

    Args:
        content: the header as TOML
        header_name: name of its file, for messages
    """
    rules: dict[str, NameRules] = {}
    problems = []
    for key in RULE_KEYS:
        stated = content.get(key, {})
        if not isinstance(stated, Mapping):
            text = f"{key} in {header_name} must name a column, such as {key}.speaker_id = {_example(key)}"
            problems.append(Problem("LP135", text))
            continue
        for column, value in stated.items():
            before = rules.get(column, NameRules())
            changed = _with_rule(before, key, value)
            if isinstance(changed, str):
                text = f"{key}.{toml_key(column)} in {header_name} is {value!r}; {changed}"
                problems.append(Problem("LP135", text))
            else:
                rules[column] = changed
    return rules, problems


def rules_content(rules: Mapping[str, NameRules]) -> list[str]:
    """Return the lines of a header that state rules; `read_rules` reads them."""
    lines = []
    for column, rule in rules.items():
        stated: dict[str, Any] = {
            "same_names": ALL if rule.similar == "same" else rule.same,
            "distinct_names": ALL if rule.similar == "distinct" else rule.distinct,
            "known_names": rule.known,
        }
        lines += [f"{key}.{toml_key(column)} = {toml_value(value)}" for key, value in stated.items() if value]
    return lines


def with_same_speaker(
    rules: NameRules, choices: Sequence[str], written: Sequence[str]
) -> tuple[NameRules, list[Problem]]:
    """Return the rules with those of ``--same-speaker``, and a problem for each choice that names no two speakers.

    Args:
        rules: of the header
        choices: each ``A=B``, ``all`` or ``none``
        written: the cells of the column of speakers
    """
    present, problems = set(normalise_names(written)), list[Problem]()
    for choice in choices:
        if choice in ("all", "none"):
            rules = replace(rules, similar="same" if choice == "all" else "distinct")
            continue
        cuts = [k for k, character in enumerate(choice) if character == "="]
        pairs = [(normalise_name(choice[:k]), normalise_name(choice[k + 1 :])) for k in cuts]
        found = [pair for pair in pairs if pair[0] != pair[1] and present.issuperset(pair)]
        if len(found) == 1:
            rules = replace(rules, same=(*rules.same, found[0]))
        else:
            text = f"--same-speaker {choice} is not two of the speakers as A=B, nor all or none"
            problems.append(Problem("LP134", text))
    return rules, problems


def _with_rule(rules: NameRules, key: str, value: Any) -> NameRules | str:
    if key == "known_names":
        if _are_names(value):
            return replace(rules, known=tuple(map(normalise_name, value)))
        return f"it must be a list of names, such as {_example(key)}"
    if value == ALL:
        return replace(rules, similar="same" if key == "same_names" else "distinct")
    if not (isinstance(value, list) and value and all(_are_names(group) and len(group) > 1 for group in value)):
        return f'it must be lists of names, such as {_example(key)}, or "{ALL}"'
    groups = tuple(tuple(map(normalise_name, group)) for group in value)
    return replace(rules, same=groups) if key == "same_names" else replace(rules, distinct=groups)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _example(key: str) -> str:
    return '["NA"]' if key == "known_names" else '[["s1", "S1"]]'


def _united(groups: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the groups with those that have a name in common as one."""
    united: list[tuple[str, ...]] = []
    for group in groups:
        common = [other for other in united if set(other) & set(group)]
        united = [other for other in united if other not in common]
        united.append(tuple(dict.fromkeys(name for part in (*common, group) for name in part)))
    return united


def _contradictions(
    same: Sequence[tuple[str, ...]], rules: NameRules, known: set[str], column: str, header_name: str
) -> list[Problem]:
    """Return a problem for each rule that names what is not there, or contradicts another."""
    problems = []
    for key, groups in (("same_names", same), ("distinct_names", rules.distinct)):
        missing = [name for group in groups for name in (group[1:] if key == "same_names" else group)]
        problems += [
            Problem("LP137", f"{key}.{column} of {header_name} has {name!r}, which is in no row")
            for name in missing
            if name not in known
        ]
    different = {frozenset(pair) for group in rules.distinct for pair in combinations(group, 2)}
    both = [p for group in same for p in combinations(group, 2) if frozenset(p) in different]
    problems += [
        Problem("LP138", f"{column} {a!r} and {b!r} are in same_names and in distinct_names; keep one") for a, b in both
    ]
    if UNKNOWN_SPEAKER in rules.known:
        text = f"known_names.{column} can't have {UNKNOWN_SPEAKER!r}, which always means not known"
        problems.append(Problem("LP138", text))
    return problems


def _undecided(similar: SimilarNames, open_pairs: list[tuple[str, str]]) -> SimilarNames:
    names = [name for name in similar.names if any(name in pair for pair in open_pairs)]
    counts = dict(zip(similar.names, similar.counts, strict=True))
    return SimilarNames(tuple(names), tuple(counts[name] for name in names))


def _question(similar: SimilarNames, column: str, header_name: str) -> Problem:
    *first, last = (f"{n!r} ({c} row{'s' * (c > 1)})" for n, c in zip(similar.names, similar.counts, strict=True))
    listed = f"{toml_key(column)} = {toml_value([similar.names])}"
    what = "one speaker" if column == SPEAKER else "one group"
    return Problem(
        "LP139",
        f"{column} {', '.join(first)} and {last} differ only in {similar.difference}: if they are {what}, write "
        f"same_names.{listed} at the top of {header_name}, else distinct_names.{listed}",
    )
