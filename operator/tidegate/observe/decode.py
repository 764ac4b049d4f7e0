"""
From vectors to samples: what each pod reports.

In:    the answers to `tick_queries`, and the instant they were evaluated at.
Out:   a `PodSample` per pod that reports anything.
Rules: pure. Values that are NaN, infinite, impossibly large or absent are left out and never become zero.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from tidegate.observe.dialects import FLOW, GPU, HISTOGRAMS, KV_INFO_LABELS, NOW, Shape
from tidegate.observe.queries import SIGNAL, Dialect

# (namespace, name) of a pod.
PodName = tuple[str, str]
# One series of an instant vector as Prometheus' API gives it: {"metric": {...}, "value": [time, "number"]}.
Series = Mapping[str, object]
Vector = Sequence[Series]

# No metric of a pod is larger, in any unit. Larger values come from a broken exporter, and sums and squares of them
# overflow.
LARGEST = 1e15

# Signals that are counters, all signals over the window, and the values of a server that has had no request yet.
_COUNTED = frozenset(signal.name for signal in FLOW if signal.shape is Shape.RATE)
_FLOWS = frozenset(signal.name for signal in FLOW)
_UNUSED = {"started": 0.0, "finished": 0.0}
_SCALES = {signal.name: signal.scale for signal in (*NOW, *FLOW, *GPU)}


@dataclass(slots=True)
class PodSample:
    """
    What one pod reports.

    Args:
        values: By signal, finite numbers in our units.
        buckets: By histogram and upper bound in seconds, increase over the window.
        kv_tokens: Tokens that fit into its KV cache; None: not stated.
        age_s: Age of its newest gauge; None: no gauge.
    """

    values: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, dict[float, float]] = field(default_factory=dict)
    kv_tokens: float | None = None
    age_s: float | None = None

    def answers(self, stale_s: float) -> bool:
        """True for a fresh sample of an engine that is awake."""
        return self.age_s is not None and self.age_s <= stale_s and "running" in self.values and not self.asleep

    @property
    def flows(self) -> bool:
        """The window has at least two scrapes: a single one shows no rate."""
        return not _FLOWS.isdisjoint(self.values)

    @property
    def asleep(self) -> bool:
        """The engine is in sleep mode: /health succeeds, and requests wait without showing in any gauge."""
        return self.values.get("asleep", 0.0) > 0

    @property
    def unused(self) -> bool:
        """
        No request has come yet: nothing is in flight, no request was ever counted, and no other counter moves.

        SGLang and vLLM's V0 engine export a counter only after the first count. That its rates are missing is therefore
        taken for zero only if a gauge shows a change over the window, which proves that there were two scrapes.
        """
        in_flight = [self.values.get(signal) for signal in ("running", "waiting")]
        never = _UNUSED.keys().isdisjoint(self.values) and "waiting_growth" in self.values
        return never and in_flight == [0, 0] and not any(self.values.get(signal) for signal in _COUNTED)


Samples = Mapping[PodName, PodSample]


def pod_samples(vectors: Mapping[str, Vector], dialect: Dialect, *, time_s: float) -> dict[PodName, PodSample]:
    """
    Everything the vectors contain, by pod.

    Args:
        vectors: Answers by query name.
        dialect: The one the queries were made with.
        time_s: Instant of the queries, unix seconds.
    """
    reader = _Reader(dialect)
    for query, sample_of in (("now", reader.sample), ("flow", reader.sample), ("gpu", reader.gpu_sample)):
        for labels, value in _measured(vectors.get(query, ())):
            sample, signal = sample_of(labels), labels.get(SIGNAL, "")
            if signal == "seen":
                sample.age_s = max(0.0, time_s - value)
            else:
                # Any scrape target can export series that name another pod, as a GPU exporter does. The highest value
                # counts: a pod's GPUs are idle only if all of them say so.
                amount = value * _SCALES.get(signal, 1.0)
                sample.values[signal] = max(amount, sample.values.get(signal, amount))
    for name in HISTOGRAMS:
        for labels, value in _measured(vectors.get(name, ())):
            bound = _bound(labels.get("le", ""))
            if bound is not None:
                reader.sample(labels).buckets.setdefault(name, {})[bound] = value
    for labels, value in _measured(vectors.get("kv", ())):
        sample, tokens = reader.sample(labels), _kv_tokens(labels, value)
        if tokens is not None and is_possible(tokens):
            sample.kv_tokens = (sample.kv_tokens or 0.0) + tokens
    return reader.done()


class _Reader:
    """Samples by pod."""

    def __init__(self, dialect: Dialect) -> None:
        self.samples: dict[PodName, PodSample] = {}
        self._dialect = dialect
        self._namespace, self._pod = dialect.namespace_label, dialect.pod_label

    def sample(self, labels: Mapping[str, str]) -> PodSample:
        """The sample of the pod that was scraped."""
        return self._of((labels.get(self._namespace, ""), labels.get(self._pod, "")))

    def gpu_sample(self, labels: Mapping[str, str]) -> PodSample:
        """The sample of the pod that uses the GPU; the scraped pod is the exporter."""
        return self._of((_first(labels, self._dialect.namespace_labels), _first(labels, self._dialect.pod_labels)))

    def done(self) -> dict[PodName, PodSample]:
        """Every sample, after all vectors have been read."""
        for sample in self.samples.values():
            if sample.unused:
                sample.values |= _UNUSED
        return self.samples

    def _of(self, name: PodName) -> PodSample:
        found = self.samples.get(name)
        if found is None:
            found = self.samples[name] = PodSample()
        return found


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    """The first of these labels that a series has; empty ones count as missing, as in Prometheus."""
    return next((labels[name] for name in names if labels.get(name)), "")


def _measured(vector: Vector) -> Iterable[tuple[Mapping[str, str], float]]:
    """
    Labels and value of each series with a possible value. A plain loop, because fleets send a hundred thousand series.
    """
    for series in vector:
        labels, point = series.get("metric"), series.get("value")
        if type(labels) is not dict or type(point) is not list or len(point) != 2:
            continue
        try:
            value = float(point[1])
        except (TypeError, ValueError):
            continue
        if is_possible(value):
            yield labels, value


def is_possible(value: float) -> bool:
    """Whether a value can have been measured: not NaN, infinite or impossibly large."""
    return -LARGEST <= value <= LARGEST


def number(text: str) -> float | None:
    """The number, possibly infinite; None if it is no number or an impossible one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if is_possible(value) or value == math.inf else None


# Cached, because a fleet has only a few dozen bucket edges, repeated in every series.
_bound = lru_cache(maxsize=4096)(number)


def _kv_tokens(labels: Mapping[str, str], value: float) -> float | None:
    """Tokens of KV cache. vLLM's info metric is 1 per engine; the value of SGLang's metric is the number itself."""
    stated, blocks, size = (number(labels.get(name, "")) for name in KV_INFO_LABELS)
    if stated:
        return stated * value
    if blocks and size:
        return blocks * size
    return value if not any(name in labels for name in KV_INFO_LABELS) and value > 0 else None
