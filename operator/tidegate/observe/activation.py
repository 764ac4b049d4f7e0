"""
Which activation queries are combined, and which are evaluated alone.

In:    the activation queries of deployments at zero replicas, and the results of those that were evaluated.
Out:   those for the joint queries, and the few whose turn it is to be evaluated alone.
Rules: no I/O. One user's query must not keep another user's deployment asleep: a query that may have broken a joint
       query stays out of them until it has succeeded alone. Turns go round-robin.
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

# VictoriaMetrics accepts queries of up to 16 KiB. No expression starts beyond 11 KiB of a joint query, so the longest
# one (4 KiB) still fits. If four joint queries cannot hold all, each grows instead of sending more of them.
JOINT_BYTES, JOINTS_MAX = 11 * 2**10, 4
# What labelling and joining adds to an expression, with the longest namespace and name.
_MARK_BYTES = 200

# Prometheus runs 20 queries at once: the seven of a tick, the joint ones and these leave one for other users.
ALONE_MAX = 8

# Failures of the server or the connection. Any other may be caused by a single query.
_OF_THE_SERVER = frozenset(
    {"Unreachable", "Tls", "Unauthorized", "CredentialUnreadable", "BadHeader", "NotFound", "NotJson", "Throttled"}
)


def may_be_its_own(error: SourceError) -> bool:
    """True for a failure that the query itself may have caused: invalid, failing when run, slow, too large."""
    return error.reason not in _OF_THE_SERVER


def parts(queries: Mapping[Key, str]) -> list[dict[Key, str]]:
    """Queries by joint query: as many in one as every server accepts, until there would be too many joint queries."""
    ends = list(accumulate(len(text) + _MARK_BYTES for text in queries.values()))
    room = max(JOINT_BYTES, math.ceil(ends[-1] / JOINTS_MAX)) if ends else JOINT_BYTES
    found: dict[int, dict[Key, str]] = defaultdict(dict)
    for (key, text), begin in zip(queries.items(), [0, *ends], strict=False):
        found[begin // room][key] = text
    return list(found.values())


@dataclass(slots=True)
class Turns:
    """Queries that are evaluated alone, by deployment, in order of their turn."""

    _apart: dict[Key, str] = field(default_factory=dict)

    def together(self, asked: Mapping[Key, str]) -> dict[Key, str]:
        """Queries for the joint ones. Edited queries, and deployments that had stopped waiting, start afresh."""
        self._apart = {key: text for key, text in self._apart.items() if asked.get(key) == text}
        return {key: text for key, text in sorted(asked.items()) if key not in self._apart and is_closed(text)}

    def alone(self) -> dict[Key, str]:
        """Queries whose turn it is."""
        return dict(islice(self._apart.items(), ALONE_MAX))

    def part(self, queries: Mapping[Key, str]) -> None:
        """
        A joint query of these failed, and any of them may be the cause: each is evaluated alone before it joins again.
        """
        self._apart.update(queries)

    def settle(self, answers: Mapping[Key, Vector | SourceError]) -> None:
        """Results of queries evaluated alone: each either rejoins the others or goes to the end of the line."""
        for key, answer in answers.items():
            text = self._apart.pop(key)
            if isinstance(answer, SourceError):
                self._apart[key] = text


def activation_value(key: Key, answer: Vector | SourceError) -> float | Missing:
    """The value for one deployment; 0 if the expression returned no series."""
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
            return Missing(reason="NotANumber", detail=f"the activationQuery returned {text}")
    return 0.0
