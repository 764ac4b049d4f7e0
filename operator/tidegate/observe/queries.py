"""
The PromQL of one tick: as many queries for one deployment as for ten thousand.

In:    the window, and how this Prometheus names pods.
Out:   named queries. Each gives one number per pod (histograms: per pod and bucket); which tier a pod belongs to is
       known from the watched pods, so nobody has to relabel anything.
Rules: pure. Every value that ends up between quotes goes through `quoted`.

Many signals share one query: each is marked with the label `signal`, and `or` strings them together. A pod speaks
one name of each signal (`new or old`), so a fleet of mixed versions reads as one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tidegate.domain.key import Key
from tidegate.observe.dialects import (
    FLOW,
    GPU,
    HISTOGRAMS,
    KV_INFO,
    KV_INFO_LABELS,
    KV_TOKENS,
    NOW,
    RUNNING,
    Shape,
    Signal,
)

# The label that says which signal a series of a shared query is, and the one that names an activation query's owner.
SIGNAL = "signal"
OWNER = "tidegate_owner"

# dcgm-exporter says with `namespace` and `pod` which pod computes. Where the scrape names the exporter itself by these,
# they are found behind this.
EXPORTED = "exported_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """
    How this Prometheus is asked.

    Args:
        window_s: Window of rates and histogram increases, s; at least two scrapes long.
        namespace_label, pod_label: Labels that name the scraped pod.
        matchers: Label values that every series must have, e.g. `{"cluster": "eu-1"}` where many clusters share it.
    """

    window_s: float = 60.0
    namespace_label: str = "namespace"
    pod_label: str = "pod"
    matchers: Mapping[str, str] = field(default_factory=dict)

    @property
    def grouping(self) -> str:
        """The labels that name a pod, for `by (...)`."""
        return f"{self.namespace_label},{self.pod_label}"

    @property
    def namespace_labels(self) -> tuple[str, ...]:
        """The labels that may name the namespace of a pod that computes on a GPU, the one that surely does first."""
        return _used(self.namespace_label, "namespace")

    @property
    def pod_labels(self) -> tuple[str, ...]:
        """The same for its name."""
        return _used(self.pod_label, "pod")

    @property
    def span(self) -> str:
        """The window as PromQL writes it, in whole seconds."""
        return f"[{round(self.window_s)}s]"


def _used(label: str, own: str) -> tuple[str, ...]:
    """
    Where the exporter's own label may be found, given the one that the scrape sets.

    A scrape that sets another label leaves the exporter's as it is; one that sets none has only that.
    """
    return tuple(dict.fromkeys((EXPORTED + label, EXPORTED + own, own, label)))


def quoted(value: str) -> str:
    """
    A PromQL string literal that means exactly `value`.

    Backslash, quote and line ends are escaped; nothing in `value` can end the string.
    """
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def selector(metric: str, dialect: Dialect) -> str:
    """A metric with its fixed matchers and those of the dialect: `name{a="b",cluster="eu-1"}`."""
    name, _, fixed = metric.partition("{")
    pairs = [fixed.removesuffix("}")] if fixed else []
    pairs += [f"{label}={quoted(value)}" for label, value in sorted(dialect.matchers.items())]
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def tick_queries(dialect: Dialect) -> dict[str, str]:
    """The fixed queries of one tick by name: `now`, `flow`, one per histogram, `kv` and `gpu`."""
    queries = {
        "now": " or ".join([*(_signal(s, dialect) for s in NOW), _seen(dialect)]),
        "flow": " or ".join(_signal(s, dialect) for s in FLOW),
        "kv": _kv(dialect),
        "gpu": _gpu(dialect),
    }
    for name, metrics in HISTOGRAMS.items():
        queries[name] = _histogram(metrics, dialect)
    return queries


def _marked(expression: str, signal: str) -> str:
    return f'label_replace({expression}, "{SIGNAL}", "{signal}", "", "")'


def _signal(signal: Signal, dialect: Dialect) -> str:
    """One signal per pod, whichever of its names the pod speaks."""
    return _marked(" or ".join(_per_pod(signal, metric, dialect) for metric in signal.metrics), signal.name)


def _per_pod(signal: Signal, metric: str, dialect: Dialect) -> str:
    series = selector(metric, dialect)
    if signal.shape in {Shape.RATE, Shape.DELTA}:
        return f"sum by ({dialect.grouping}) ({signal.shape.value}({series}{dialect.span}))"
    return f"{signal.shape.value} by ({dialect.grouping}) ({series})"


def _seen(dialect: Dialect) -> str:
    """When each pod's gauges were scraped last: an instant query fills gaps of up to five minutes silently."""
    times = " or ".join(f"max by ({dialect.grouping}) (timestamp({selector(m, dialect)}))" for m in RUNNING)
    return _marked(times, "seen")


def _histogram(metrics: Iterable[str], dialect: Dialect) -> str:
    grouping = f"{dialect.grouping},le"
    return " or ".join(f"sum by ({grouping}) (increase({selector(m, dialect)}{dialect.span}))" for m in metrics)


def _kv(dialect: Dialect) -> str:
    info = f"sum by ({dialect.grouping},{','.join(KV_INFO_LABELS)}) ({selector(KV_INFO, dialect)})"
    return f"{info} or sum by ({dialect.grouping}) ({selector(KV_TOKENS, dialect)})"


def _gpu(dialect: Dialect) -> str:
    grouping = ",".join((*dialect.namespace_labels, *dialect.pod_labels))
    return " or ".join(
        _marked(f"{s.shape.value} by ({grouping}) ({selector(s.metrics[0], dialect)})", s.name) for s in GPU
    )


def activation_query(queries: Mapping[Key, str]) -> str:
    """
    One query for deployments that wait at zero replicas: the sum of each user's expression, marked with its owner.

    Args:
        queries: At least one. An expression that does not stand on its own (`is_closed`) must not be among them.
    """
    return " or ".join(
        f'label_replace(sum(({text})), "{OWNER}", {quoted(str(key))}, "", "")' for key, text in sorted(queries.items())
    )


_STRINGS = re.compile(r'"(?:[^"\\\n]|\\.)*"|' + r"'(?:[^'\\\n]|\\.)*'|`[^`]*`")
_PAIRS = {")": "(", "]": "[", "}": "{"}


def is_closed(expression: str) -> bool:
    """
    True for an expression that stays one when it is put in brackets: strings end, brackets match, no comment.

    A namespace's user cannot reach out of their own brackets and answer for somebody else's deployment.
    """
    bare, open_brackets = _STRINGS.sub("", expression), list[str]()
    if not bare.strip() or any(mark in bare for mark in "\"'`#"):
        return False
    for mark in bare:
        if mark in "([{":
            open_brackets.append(mark)
        elif mark in _PAIRS and (not open_brackets or open_brackets.pop() != _PAIRS[mark]):
            return False
    return not open_brackets
