"""
All metrics of one tick, or one reason why there are none, within five seconds.

In:    a client, the dialect, the instant.
Out:   a `Harvest`: samples by pod, and the values of the activation queries of deployments at zero replicas.
Rules: never raises for what the server does. After three failed ticks only one small query per tick is sent, until it
       is answered.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.domain.key import Key
from tidegate.domain.observation import Missing
from tidegate.errors import SourceError
from tidegate.observe.activation import Turns, activation_value, may_be_its_own, parts
from tidegate.observe.decode import Samples, Vector, pod_samples
from tidegate.observe.dialects import HISTOGRAMS
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect, activation_query, is_closed, tick_queries
from tidegate.observe.threads import in_thread

log = logging.getLogger(__name__)

# Time for all queries of a tick; what is not answered by then is missing.
LIMIT_S = 4.8
BAD_TICKS_TOLERATED = 3

# Without these there is no reading. GPU and KV-cache metrics are left out if their query fails.
ESSENTIAL = frozenset({"now", "flow", "ttft", "itl", "request_itl"})

# Queries over a window. If samples arrive late by more than a scrape interval, a window that ends now has an empty end
# and counts too little: only half with four scrapes of 15 s that are 30 s late.
OVER_WINDOW = frozenset({"flow", *HISTOGRAMS})
# Number of ticks (about a minute) whose youngest sample measures how late samples arrive: a single tick may just fall
# late between two scrapes.
LOOKS = 4

# A query that any working server answers.
KNOCK = {"knock": "vector(1)"}

_Answers = Mapping[str, Vector | SourceError]
_OPEN = Missing(
    reason="BadQuery",
    detail="the activationQuery has unbalanced brackets or quotes, a comment, or a backslash outside of quotes",
)
_LATER = Missing(
    reason="NotAsked", detail="some activationQuery fails; this one waits for its turn to be evaluated on its own"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """
    Metrics of one instant; windows end at the newest samples.

    Args:
        time_s: The instant, unix seconds.
        samples: By pod, or why there are none.
        activations: Value of each evaluated activation query, or why there is none. A result without series reads as 0:
            by the user's expression, nobody waits.
        failures: Reasons by name of each failed query, including those that were left out without harm.
    """

    time_s: float
    samples: Samples | Missing
    activations: Mapping[Key, float | Missing] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


class Collector:
    """
    Queries one server once per tick.

    Args:
        client: The blocking client.
        dialect: How pods are named there, and the window.
        clock: Monotonic seconds.
    """

    def __init__(self, client: Prometheus, dialect: Dialect, *, clock: Callable[[], float]) -> None:
        self._client, self._dialect, self._clock = client, dialect, clock
        self._queries = tick_queries(dialect)
        self._bad_ticks = 0
        self._ages_s: deque[float] = deque(maxlen=LOOKS)
        self._turns = Turns()

    async def collect(self, time_s: float, activations: Mapping[Key, str]) -> Harvest:
        """All metrics of the instant `time_s` (unix seconds); `activations` are the queries of deployments at zero."""
        began_s = self._clock()
        if self._bad_ticks >= BAD_TICKS_TOLERATED and (refusal := await self._knock(time_s)):
            return _nothing(time_s, refusal, activations, {"knock": refusal.reason})
        joint = parts(self._turns.together(activations))
        asked = self._activation_queries(joint)
        answers = await self._ask(self._queries | asked, time_s, late_s=min(self._ages_s, default=0.0))
        failures = _failures(answers)
        wrong = [a for name, a in answers.items() if name in ESSENTIAL and isinstance(a, SourceError)]
        self._bad_ticks = self._bad_ticks + 1 if wrong else 0
        # Queries that overload the server in a large fleet must not keep deployments at zero from being woken.
        if wrong and all(isinstance(answers[name], SourceError) for name in asked):
            return _nothing(time_s, wrong[0], activations, failures)
        samples = _missing(wrong[0]) if wrong else await self._samples(answers, time_s)
        values = await self._values(activations, joint, answers, time_s, began_s)
        return Harvest(time_s=time_s, samples=samples, activations=values, failures=failures)

    async def activations(self, time_s: float, asked: Mapping[Key, str]) -> dict[Key, float | Missing]:
        """Only the activation queries, between two ticks."""
        began_s = self._clock()
        joint = parts(self._turns.together(asked))
        answers = await self._ask(KNOCK | self._activation_queries(joint), time_s)
        knock = answers["knock"]
        if isinstance(knock, SourceError):
            return dict.fromkeys(asked, _missing(knock))
        return await self._values(asked, joint, answers, time_s, began_s)

    async def _samples(self, answers: _Answers, time_s: float) -> Samples:
        vectors = {name: answer for name, answer in answers.items() if not isinstance(answer, SourceError)}
        samples = await in_thread(lambda: pod_samples(vectors, self._dialect, time_s=time_s))
        ages_s = [sample.age_s for sample in samples.values() if sample.age_s is not None]
        self._ages_s.append(min(ages_s, default=0.0))
        return samples

    async def _knock(self, time_s: float) -> SourceError | None:
        """One small query while the server is down; None: it is back."""
        answer = (await self._ask(KNOCK, time_s))["knock"]
        return answer if isinstance(answer, SourceError) else None

    async def _ask(
        self, queries: Mapping[str, str], time_s: float, *, limit_s: float = LIMIT_S, late_s: float = 0.0
    ) -> dict[str, Vector | SourceError]:
        """
        Answers by query name, all for one instant, all within the limit.

        Args:
            late_s: How late samples arrive: windows end this much before the instant.
        """
        ends_s = {name: time_s - late_s if name in OVER_WINDOW else time_s for name in queries}
        tasks = {name: asyncio.create_task(self._one(query, ends_s[name])) for name, query in queries.items()}
        try:
            await asyncio.wait(tasks.values(), timeout=limit_s)
        finally:
            for task in tasks.values():
                task.cancel()
        late = SourceError(source="prometheus", reason="Timeout", detail=f"no answer within {LIMIT_S:g} s")
        found = {name: task.result() if task.done() and not task.cancelled() else late for name, task in tasks.items()}
        for name, answer in found.items():
            if isinstance(answer, SourceError):
                log.debug("query %s failed: %s", name, answer)
        return found

    async def _one(self, query: str, time_s: float) -> Vector | SourceError:
        try:
            return await in_thread(lambda: self._client.custom_query(query, params={"time": f"{time_s:.3f}"}))
        except SourceError as error:
            return error

    def _activation_queries(self, joint: Sequence[Mapping[Key, str]]) -> dict[str, str]:
        """The joint queries, and those whose turn it is to be evaluated alone (named after their deployment)."""
        together = {_joint(i): activation_query(part) for i, part in enumerate(joint)}
        return together | _named(self._turns.alone())

    async def _values(
        self,
        asked: Mapping[Key, str],
        joint: Sequence[Mapping[Key, str]],
        answers: _Answers,
        time_s: float,
        began_s: float,
    ) -> dict[Key, float | Missing]:
        """
        Values by deployment, from a server that is up.

        If a joint query failed, its members are evaluated alone, the first few of them in the time that is left.
        """
        single = {key: answers[str(key)] for key in asked if str(key) in answers}
        of_joint: dict[Key, float | Missing] = {}
        broken = False
        for i, part in enumerate(joint):
            answer = answers[_joint(i)]
            if isinstance(answer, SourceError) and may_be_its_own(answer):
                broken = True
                self._turns.part(part)
            else:
                of_joint |= {key: activation_value(key, answer) for key in part}
        self._turns.settle(single)
        left_s = LIMIT_S - (self._clock() - began_s)
        if broken and left_s > 0:
            more = {key: text for key, text in self._turns.alone().items() if key not in single}
            found = await self._ask(_named(more), time_s, limit_s=left_s)
            self._turns.settle({key: found[str(key)] for key in more})
            single |= {key: found[str(key)] for key in more}
        of_single = {key: activation_value(key, answer) for key, answer in single.items()}
        return {key: _LATER if is_closed(text) else _OPEN for key, text in asked.items()} | of_joint | of_single


def _nothing(time_s: float, why: SourceError, activations: Mapping[Key, str], failures: Mapping[str, str]) -> Harvest:
    missing = _missing(why)
    return Harvest(time_s=time_s, samples=missing, activations=dict.fromkeys(activations, missing), failures=failures)


def _missing(why: SourceError) -> Missing:
    return Missing(reason=why.reason, detail=why.detail)


def _joint(number: int) -> str:
    """Name of a joint query."""
    return f"activation {number}"


def _failures(answers: _Answers) -> dict[str, str]:
    """
    Reasons by query, the joint ones under one name. A single user's query, named after its deployment, does not count.
    """
    failed = {name: answer.reason for name, answer in answers.items() if isinstance(answer, SourceError)}
    return {name.partition(" ")[0]: reason for name, reason in failed.items() if "/" not in name}


def _named(alone: Mapping[Key, str]) -> dict[str, str]:
    """A separate query for each deployment, by its name."""
    return {str(key): activation_query({key: text}) for key, text in alone.items()}
