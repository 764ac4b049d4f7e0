"""
The PromQL of one tick: the same number of queries for one deployment as for ten thousand.

In:    the window, and how this Prometheus names pods.
Out:   named queries. Each returns one number per pod (histograms: per pod and bucket). Which tier a pod belongs to is
       known from the watched pods, so no relabelling is needed.
Rules: pure. Every value that ends up between quotes goes through `quoted`.

Several signals share one query: each gets the label `signal`, and `or` combines them. A pod exports one of the names of
each signal (`new or old`), so a fleet of mixed versions reads as one.
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
    SCHEDULERS,
    Shape,
    Signal,
)
from tidegate.settings import PrometheusSettings

# Labels that name the signal of a series in a shared query, and the deployment that an activation query belongs to.
SIGNAL = "signal"
OWNER = "tidegate_owner"

# dcgm-exporter names the pod that uses a GPU in the labels `namespace` and `pod`. If the scrape sets these labels to
# the exporter's own pod, Prometheus renames the exporter's labels with this prefix.
EXPORTED = "exported_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """
    How to query this Prometheus.

    Args:
        window_s: Window of rates and histogram increases, s; at least two scrape intervals.
        namespace_label, pod_label: Labels that name the scraped pod.
        matchers: Label values that every series must have, e.g. `{"cluster": "eu-1"}` on a server of several clusters.
    """

    window_s: float = 60.0
    namespace_label: str = "namespace"
    pod_label: str = "pod"
    matchers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: PrometheusSettings, *, window_s: float) -> "Dialect":
        """What these settings say, with rates over `window_s`."""
        return cls(
            window_s=window_s,
            namespace_label=settings.prometheus_namespace_label,
            pod_label=settings.prometheus_pod_label,
            matchers=settings.matchers,
        )

    @property
    def grouping(self) -> str:
        """The labels that name a pod, for `by (...)`."""
        return f"{self.namespace_label},{self.pod_label}"

    @property
    def namespace_labels(self) -> tuple[str, ...]:
        """Labels that may hold the namespace of a pod that uses a GPU, most reliable first."""
        return _used(self.namespace_label, "namespace")

    @property
    def pod_labels(self) -> tuple[str, ...]:
        """Labels that may hold its name, likewise."""
        return _used(self.pod_label, "pod")

    @property
    def span(self) -> str:
        """The window as a PromQL range, in whole seconds."""
        return f"[{round(self.window_s)}s]"


def _used(label: str, own: str) -> tuple[str, ...]:
    """
    Labels in which the exporter's own label may be found, given the one that the scrape sets.

    A scrape that sets another label leaves the exporter's unchanged; a scrape that sets none leaves only that one.
    """
    return tuple(dict.fromkeys((EXPORTED + label, EXPORTED + own, own, label)))


def quoted(value: str) -> str:
    """
    A PromQL string literal with exactly this value.

    Backslash, quote and line breaks are escaped, so nothing in `value` can end the string.
    """
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def selector(metric: str, dialect: Dialect) -> str:
    """A metric with its fixed matchers and the dialect's: `name{a="b",cluster="eu-1"}`."""
    name, _, fixed = metric.partition("{")
    pairs = [fixed.removesuffix("}")] if fixed else []
    pairs += [f"{label}={quoted(value)}" for label, value in sorted(dialect.matchers.items())]
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def tick_queries(dialect: Dialect) -> dict[str, str]:
    """The fixed queries of one tick, by name: `now`, `flow`, one per histogram, `kv` and `gpu`."""
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
    """One signal per pod, under whichever of its names the pod exports."""
    return _marked(" or ".join(_per_pod(signal, metric, dialect) for metric in signal.metrics), signal.name)


def _per_pod(signal: Signal, metric: str, dialect: Dialect) -> str:
    series = selector(metric, dialect)
    if signal.shape in {Shape.RATE, Shape.DELTA}:
        moved = f"{signal.shape.value}({series}{dialect.span})"
        return f"sum by ({dialect.grouping}) ({_once(metric, moved, dialect)})"
    return f"{signal.shape.value} by ({dialect.grouping}) ({_once(metric, series, dialect)})"


def _once(metric: str, series: str, dialect: Dialect) -> str:
    """The series of a metric, without the copies that further schedulers report."""
    schedulers = SCHEDULERS.get(metric)
    return f"max by ({dialect.grouping},{schedulers}) ({series})" if schedulers else series


def _seen(dialect: Dialect) -> str:
    """When each pod's gauges were last scraped: an instant query silently fills gaps of up to five minutes."""
    times = " or ".join(f"max by ({dialect.grouping}) (timestamp({selector(m, dialect)}))" for m in RUNNING)
    return _marked(times, "seen")


def _histogram(metrics: Iterable[str], dialect: Dialect) -> str:
    grouping = f"{dialect.grouping},le"
    return " or ".join(f"sum by ({grouping}) (increase({selector(m, dialect)}{dialect.span}))" for m in metrics)


def _kv(dialect: Dialect) -> str:
    info = f"sum by ({dialect.grouping},{','.join(KV_INFO_LABELS)}) ({selector(KV_INFO, dialect)})"
    tokens = _once(KV_TOKENS, selector(KV_TOKENS, dialect), dialect)
    return f"{info} or sum by ({dialect.grouping}) ({tokens})"


def _gpu(dialect: Dialect) -> str:
    grouping = ",".join((*dialect.namespace_labels, *dialect.pod_labels))
    return " or ".join(
        _marked(f"{s.shape.value} by ({grouping}) ({selector(s.metrics[0], dialect)})", s.name) for s in GPU
    )


def activation_query(queries: Mapping[Key, str]) -> str:
    """
    One query for all deployments that wait at zero replicas: the sum of each user's expression, labelled with its
    owner.

    Args:
        queries: At least one. Every expression must be complete in itself (`is_closed`).
    """
    return " or ".join(
        f'label_replace(sum(({text})), "{OWNER}", {quoted(str(key))}, "", "")' for key, text in sorted(queries.items())
    )


# Whole strings, or the mark of one that does not end with all that follows it: the time to read what a user wrote grows
# with its length, not its square.
_STRINGS = re.compile(r"""`[^`]*+`|"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'|(?P<open>["'`])(?s:.*)""")
_PAIRS = {")": "(", "]": "[", "}": "{"}


def is_closed(expression: str) -> bool:
    """
    True for an expression that can be put in parentheses: strings end, brackets match, no comment.

    So no user can break out of the parentheses and answer for another deployment. Outside of strings a backslash means
    nothing in PromQL; in VictoriaMetrics' dialect it makes a quote part of a name, so strings would end elsewhere.
    """
    bare, open_brackets = _STRINGS.sub(r"\g<open>", expression), list[str]()
    if not bare.strip() or any(mark in bare for mark in "\"'`#\\"):
        return False
    for mark in bare:
        if mark in "([{":
            open_brackets.append(mark)
        elif mark in _PAIRS and (not open_brackets or open_brackets.pop() != _PAIRS[mark]):
            return False
    return not open_brackets
