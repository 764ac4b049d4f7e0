"""
Whose activation query may be asked together with the others, and whose is asked alone.

In:    the activation queries of deployments at zero replicas, and what became of those that were asked.
Out:   those for the joint queries, and the few whose turn it is to be asked alone.
Rules: no I/O. One user's query must not keep another one's deployment asleep: what may have spoilt a joint query
       stays out of them until it has given an answer alone. Turns go round, so everybody has one.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, islice

from tidegate.domain.key import Key
from tidegate.domain.observation import Missing
from tidegate.errors import SourceError
from tidegate.observe.decode import Vector, is_possible, number
from tidegate.observe.queries import OWNER, is_closed

# VictoriaMetrics takes queries of up to 16 KiB. A joint query begins no expression past 11 KiB, so the longest (4 KiB)
# still fits. Where four of them do not hold all, each grows instead: servers that take more are not asked more often.
JOINT_BYTES, JOINTS_MAX = 11 * 2**10, 4
# What marks and joins one of them, with the longest namespace and name.
_MARK_BYTES = 200

# Prometheus runs 20 queries at once: the seven of a tick, the joint ones and these leave room for other people's.
ALONE_MAX = 8

# These say something of the server or of the way to it. Any other failure may belong to one query.
_OF_THE_SERVER = frozenset(
    {"Unreachable", "Tls", "Unauthorized", "CredentialUnreadable", "BadHeader", "NotFound", "NotJson", "Throttled"}
)


def may_be_its_own(error: SourceError) -> bool:
    """True for a failure that a query may have brought about by itself: wrong, failing when run, slow, too much."""
    return error.reason not in _OF_THE_SERVER


def parts(queries: Mapping[Key, str]) -> list[dict[Key, str]]:
    """Queries by joint query: as many in one as every server takes, until there would be too many joint ones."""
    ends = list(accumulate(len(text) + _MARK_BYTES for text in queries.values()))
    room = max(JOINT_BYTES, math.ceil(ends[-1] / JOINTS_MAX)) if ends else JOINT_BYTES
    found: dict[int, dict[Key, str]] = defaultdict(dict)
    for (key, text), begin in zip(queries.items(), [0, *ends], strict=False):
        found[begin // room][key] = text
    return list(found.values())


@dataclass(slots=True)
class Turns:
    """Queries that are asked alone, by deployment: the next one's turn comes first."""

    _apart: dict[Key, str] = field(default_factory=dict)

    def together(self, asked: Mapping[Key, str]) -> dict[Key, str]:
        """Queries for the joint ones. Deployments that are not asked for any more, and edited queries, start afresh."""
        self._apart = {key: text for key, text in self._apart.items() if asked.get(key) == text}
        return {key: text for key, text in sorted(asked.items()) if key not in self._apart and is_closed(text)}

    def alone(self) -> dict[Key, str]:
        """Queries whose turn it is."""
        return dict(islice(self._apart.items(), ALONE_MAX))

    def part(self, queries: Mapping[Key, str]) -> None:
        """A joint query of these failed, and it may be one of them: each is asked alone before it joins again."""
        self._apart.update(queries)

    def settle(self, answers: Mapping[Key, Vector | SourceError]) -> None:
        """These were asked alone: each joins the others again, or has its next turn after all others."""
        for key, answer in answers.items():
            text = self._apart.pop(key)
            if isinstance(answer, SourceError):
                self._apart[key] = text


def activation_value(key: Key, answer: Vector | SourceError) -> float | Missing:
    """The value for one deployment; 0 where the expression gave no series."""
    if isinstance(answer, SourceError):
        return Missing(reason=answer.reason, detail=answer.detail)
    for series in answer:
        labels, point = series.get("metric"), series.get("value")
        if isinstance(labels, Mapping) and labels.get(OWNER) == str(key):
            # A native histogram has no value.
            text = str(point[1]) if isinstance(point, list) and len(point) == 2 else "no number"
            value = number(text)
            if value is not None and is_possible(value):
                return value
            return Missing(reason="NotANumber", detail=f"activationQuery gave {text}")
    return 0.0
