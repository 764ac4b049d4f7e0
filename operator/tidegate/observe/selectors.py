"""
Label selectors: does a pod match?

In:    a selector as `/scale` writes it (`app=chat,tier in (a,b),!old`) or as a workload's spec holds it.
Out:   a predicate over labels.
Rules: pure; an unreadable selector matches nothing.

Source:
    Grammar of `k8s.io/apimachinery/pkg/labels` (parse), as documented under "Labels and Selectors".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

_KEY = r"[A-Za-z0-9./_-]+"
# Blanks are never given back (`*+`): the time to read a text that a user wrote grows with its length, not its square.
_TERM = re.compile(
    rf"\s*+(?:(?P<negated>!)\s*+(?P<absent>{_KEY})|(?P<key>{_KEY})\s*+"
    r"(?:(?P<set>in|notin)\s*+\((?P<values>[^)]*)\)|(?P<operator>==|=|!=)\s*+(?P<value>[A-Za-z0-9._-]*))?)\s*+(?:,|$)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One term: the label's value is (or, `negated`, is not) in `values`; `values` empty: the label exists."""

    key: str
    values: frozenset[str] = frozenset()
    negated: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """As in Kubernetes, `!=` and `notin` also match if the label is absent."""
        value = labels.get(self.key)
        found = value is not None and (not self.values or value in self.values)
        return found != self.negated


# Selects the leader pods of groups, in the selector that a LeaderWorkerSet writes (`hpaPodSelector`).
LEADERS = Requirement(key="leaderworkerset.sigs.k8s.io/worker-index", values=frozenset({"0"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """All requirements must hold. Without any, nothing matches: a workload that selects everything is a mistake."""

    requirements: tuple[Requirement, ...]

    @property
    def exact(self) -> tuple[str, str] | None:
        """A (key, value) that every match has, for use as an index; None if no term is an equality."""
        for term in self.requirements:
            if len(term.values) == 1 and not term.negated:
                return term.key, next(iter(term.values))
        return None

    @property
    def of_workers(self) -> "Selector":
        """
        The other pods of the groups whose leaders this selects, as `/scale` of a LeaderWorkerSet does; nothing if it
        selects no leaders.
        """
        group = [term for term in self.requirements if term != LEADERS]
        if len(group) in (0, len(self.requirements)):
            return Selector(requirements=())
        return Selector(requirements=(*group, replace(LEADERS, negated=True)))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if every term holds."""
        return bool(self.requirements) and all(term.matches(labels) for term in self.requirements)


@lru_cache(maxsize=16384)
def parse_selector(text: str) -> Selector:
    """The selector that a text stands for; one that matches nothing if the text cannot be read."""
    terms: list[Requirement] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            return Selector(requirements=())
        terms.append(_requirement(match))
        position = match.end()
    return Selector(requirements=tuple(terms))


def _requirement(match: re.Match[str]) -> Requirement:
    part = match.groupdict()
    if part["negated"]:
        return Requirement(key=part["absent"], negated=True)
    if part["set"]:
        values = frozenset(value.strip() for value in part["values"].split(","))
        return Requirement(key=part["key"], values=values, negated=part["set"] == "notin")
    if part["operator"]:
        return Requirement(key=part["key"], values=frozenset({part["value"]}), negated=part["operator"] == "!=")
    return Requirement(key=part["key"])


def selector_text(selector: Mapping[str, Any]) -> str:
    """A `spec.selector` with matchLabels and matchExpressions, as text."""
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        words = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        terms.append(words.get(expression["operator"], f"!{key}"))
    return ",".join(terms)
