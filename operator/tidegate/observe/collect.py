"""
All metrics of one tick, or one reason why there are none, within five seconds.

In:    a client, the dialect, the instant.
Out:   a `Harvest`: samples by pod, and what the activation queries of deployments at zero replicas say.
Rules: never raises for what the server does. After three bad ticks only one small query per tick knocks, until it
       is answered.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tidegate.domain.key import Key
from tidegate.domain.observation import Missing
from tidegate.errors import SourceError
from tidegate.observe.decode import PodSample, Samples, Vector, pod_samples
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import OWNER, Dialect, activation_query, is_closed, tick_queries
from tidegate.observe.threads import in_thread

# A tick's metrics are there after this or not at all.
LIMIT_S = 4.8
BAD_TICKS_TOLERATED = 3

# Without these there is no reading. GPU and KV numbers are left out where their query fails.
ESSENTIAL = frozenset({"now", "flow", "ttft", "itl", "request_itl"})

# Expressions asked one by one after the joint query was refused: one user's typo must not hide the others.
SINGLE_ACTIVATIONS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """
    Metrics of one instant.

    Args:
        time_s: The instant, unix seconds.
        samples: By pod, or why there are none.
        activations: Value of each asked activation query, or why there is none. No series at all reads as 0:
            the user's expression says that nobody waits.
        took_s: Seconds until the last answer.
        failures: Reasons by query name, also of those that were left out without harm.
    """

    time_s: float
    samples: Samples | Missing
    activations: Mapping[Key, float | Missing] = field(default_factory=dict)
    took_s: float = 0.0
    failures: Mapping[str, str] = field(default_factory=dict)


class Collector:
    """
    Asks one server once per tick.

    Args:
        client: The blocking client.
        dialect: How pods are named there, and the window.
        clock: Monotonic seconds.
    """

    def __init__(self, client: Prometheus, dialect: Dialect, *, clock: Callable[[], float]) -> None:
        self._client, self._dialect, self._clock = client, dialect, clock
        self._queries = tick_queries(dialect)
        self._bad_ticks = 0

    @property
    def dialect(self) -> Dialect:
        """The dialect the queries are made with."""
        return self._dialect

    async def collect(self, time_s: float, activations: Mapping[Key, str]) -> Harvest:
        """Everything of the instant `time_s` (unix seconds); `activations` holds the queries of waiting deployments."""
        began_s = self._clock()
        if self._bad_ticks >= BAD_TICKS_TOLERATED and (refusal := await self._knock(time_s)):
            return self._nothing(time_s, refusal, activations, began_s)
        joint = activation_query(activations)
        answers = await self._ask(self._queries | ({"activation": joint} if joint else {}), time_s)
        failures = {name: a.reason for name, a in answers.items() if isinstance(a, SourceError)}
        wrong = [a for name, a in answers.items() if name in ESSENTIAL and isinstance(a, SourceError)]
        if wrong:
            self._bad_ticks += 1
            return self._nothing(time_s, wrong[0], activations, began_s)
        self._bad_ticks = 0
        vectors = {name: a for name, a in answers.items() if not isinstance(a, SourceError)}
        samples: dict[tuple[str, str], PodSample] = await in_thread(
            lambda: pod_samples(vectors, self._dialect, time_s=time_s)
        )
        asked = await self._activations(activations, answers.get("activation"), time_s)
        return Harvest(
            time_s=time_s, samples=samples, activations=asked, took_s=self._clock() - began_s, failures=failures
        )

    async def activations(self, time_s: float, asked: Mapping[Key, str]) -> dict[Key, float | Missing]:
        """Only the activation queries, between two ticks."""
        joint = activation_query(asked)
        answers = await self._ask({"activation": joint}, time_s) if joint else {}
        return await self._activations(asked, answers.get("activation"), time_s)

    def _nothing(self, time_s: float, why: SourceError, activations: Mapping[Key, str], began_s: float) -> Harvest:
        missing = Missing(reason=why.reason, detail=why.detail)
        return Harvest(
            time_s=time_s,
            samples=missing,
            activations=dict.fromkeys(activations, missing),
            took_s=self._clock() - began_s,
            failures={"now": why.reason},
        )

    async def _knock(self, time_s: float) -> SourceError | None:
        """One small question while the server is down; None: it is back."""
        answer = (await self._ask({"knock": "vector(1)"}, time_s))["knock"]
        return answer if isinstance(answer, SourceError) else None

    async def _ask(self, queries: Mapping[str, str], time_s: float) -> dict[str, Vector | SourceError]:
        """Answers by query name, all for one instant, all within the limit."""
        tasks = {name: asyncio.create_task(self._one(query, time_s)) for name, query in queries.items()}
        try:
            await asyncio.wait(tasks.values(), timeout=LIMIT_S)
        finally:
            for task in tasks.values():
                task.cancel()
        late = SourceError(source="prometheus", reason="Timeout", detail=f"no answer within {LIMIT_S:g} s")
        return {name: task.result() if task.done() and not task.cancelled() else late for name, task in tasks.items()}

    async def _one(self, query: str, time_s: float) -> Vector | SourceError:
        try:
            return await in_thread(lambda: self._client.custom_query(query, params={"time": f"{time_s:.3f}"}))
        except SourceError as error:
            return error

    async def _activations(
        self, asked: Mapping[Key, str], joint: Vector | SourceError | None, time_s: float
    ) -> dict[Key, float | Missing]:
        """Values by deployment; where the joint query was refused, each expression is asked alone."""
        values: dict[Key, float | Missing] = {}
        for key, text in asked.items():
            if not is_closed(text):
                values[key] = Missing(reason="BadQuery", detail=f"activationQuery does not stand alone: {text!r}")
        rest = {key: text for key, text in sorted(asked.items()) if key not in values}
        if isinstance(joint, SourceError) and joint.reason == "BadQuery":
            some = dict(list(rest.items())[:SINGLE_ACTIVATIONS_MAX])
            single = {str(key): activation_query({key: text}) or "" for key, text in some.items()}
            answers = await self._ask(single, time_s)
            later = Missing(reason="BadQuery", detail="another activationQuery is wrong; this one waits its turn")
            return values | {key: _activation(key, answers[str(key)]) if key in some else later for key in rest}
        return values | {key: _activation(key, joint if joint is not None else ()) for key in rest}


def _activation(key: Key, answer: Vector | SourceError) -> float | Missing:
    """The value for one deployment; 0 where the expression gave no series."""
    if isinstance(answer, SourceError):
        return Missing(reason=answer.reason, detail=answer.detail)
    for series in answer:
        labels, point = series.get("metric"), series.get("value")
        if isinstance(labels, Mapping) and labels.get(OWNER) == str(key) and isinstance(point, list):
            value = float(point[1])
            return Missing(reason="NotANumber", detail="activationQuery gave NaN") if math.isnan(value) else value
    return 0.0
