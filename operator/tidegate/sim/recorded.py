"""
Traffic that Prometheus remembers: the load of a deployment over a span of time, made into requests again.

In:    a client, a deployment (its namespace, and the model that clients ask for), from when to when.
Out:   a `Trace`: arrivals that follow the recorded rate minute by minute, lengths with the mean of each minute.
Rules: what Prometheus does not keep is stated, not hidden: arrivals within a minute are a gamma renewal process and
       lengths lognormal, both with the spread of published chat traffic. A minute without samples had no requests. What
       a minute is told by reaches into the one before it, as a rate needs two scrapes.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

import numpy as np

from tidegate.domain.spec import DeploymentSpec
from tidegate.errors import SourceError, SpecError
from tidegate.observe.dialects import FLOW
from tidegate.observe.history import RATE_S_MIN
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect, selector
from tidegate.sim.generators import CHAT, Floats, arrivals, spread
from tidegate.sim.traces import Trace
from tidegate.units import SECONDS_PER_DAY

STEP_S = 60
ANSWER_S = 20.0
# vLLM and SGLang put the name that clients ask for on each of their series.
MODEL_LABEL = "model_name"
_METRICS = {signal.name: signal.metrics for signal in FLOW}


def check(deployments: Iterable[DeploymentSpec]) -> None:
    """
    Whether the metrics tell these deployments apart.

    Raises:
        SpecError: Two of them serve one model in one namespace.
    """
    served: dict[tuple[str, str], DeploymentSpec] = {}
    for spec in deployments:
        other = served.setdefault((spec.key.namespace, spec.model), spec)
        if other is not spec:
            allowed = f"both serve {spec.model} in one namespace, and its metrics do not tell their requests apart"
            raise SpecError(field="--prometheus", value=f"{other.key} and {spec.key}", allowed=allowed)


def recorded(client: Prometheus, spec: DeploymentSpec, *, start_s: float, end_s: float, seed: int) -> Trace:
    """
    Requests of one deployment between two unix times.

    Raises:
        SourceError: Prometheus does not answer, or remembers no request of its model in that span and namespace.
    """
    dialect = dialect_of(spec.model, spec.key.namespace, window_s=RATE_S_MIN)
    rates = _curve(client, demand_query(dialect), start_s, end_s)
    if not np.nansum(rates) > 0:
        asked = ", ".join(f"{label}={value!r}" for label, value in dialect.matchers.items())
        detail = f"no requests of {asked} between {start_s:.0f} and {end_s:.0f}"
        raise SourceError(source="prometheus", reason="NoSeries", detail=detail)
    prompt, output = (_lengths(client, query(dialect), start_s, end_s) for query in (prompt_query, output_query))
    dice = np.random.default_rng(seed)
    at = arrivals(np.repeat(np.nan_to_num(rates), STEP_S), variation=1.2, dice=dice)
    minute = np.minimum((at / STEP_S).astype(np.int64), len(rates) - 1)
    return Trace(
        arrival_s=at,
        prompt_tokens=spread(prompt[minute], CHAT.prompt_variation, dice=dice),
        output_tokens=spread(output[minute], CHAT.output_variation, dice=dice),
        name=spec.model,
    )


def dialect_of(model: str, namespace: str | None, *, window_s: float) -> Dialect:
    """How to ask for what one model does in a namespace, or (None) everywhere, over a window."""
    dialect = Dialect(window_s=window_s, matchers={MODEL_LABEL: model})
    if namespace is None:
        return dialect
    return replace(dialect, matchers={MODEL_LABEL: model, dialect.namespace_label: namespace})


def demand_query(dialect: Dialect) -> str:
    """Requests/s that came, those that a full queue turned away included."""
    return f"{_rate('started', dialect)} + ({_rate('rejected', dialect)} or vector(0))"


def prompt_query(dialect: Dialect) -> str:
    """Mean prompt tokens per request."""
    return _mean("prompt_length", "prompt_tokens", "started", dialect)


def output_query(dialect: Dialect) -> str:
    """Mean output tokens per request."""
    return _mean("output_length", "output_tokens", "finished", dialect)


def _mean(length: str, tokens: str, requests: str, dialect: Dialect) -> str:
    """From the histogram of lengths, else (SGLang) tokens over requests of the counters."""
    pairs = ((f"{length}_sum", f"{length}_count"), (tokens, requests))
    return " or ".join(f"{_rate(above, dialect)} / ({_rate(below, dialect)} > 0)" for above, below in pairs)


def _rate(signal: str, dialect: Dialect) -> str:
    """
    Per second over all replicas. A fleet of several servers and versions speaks several names, each replica one.

    A replica is a scraped target: where nothing names its pod, its `instance` still does.
    """
    grouping = f"{dialect.grouping},instance"
    parts = [f"sum by ({grouping}) (rate({selector(metric, dialect)}{dialect.span}))" for metric in _METRICS[signal]]
    return f"sum({' or '.join(parts)})"


def _lengths(client: Prometheus, query: str, start_s: float, end_s: float) -> Floats:
    """Mean length per minute; minutes in which nothing finished take that of their neighbours."""
    means = _curve(client, query, start_s, end_s)
    known = np.flatnonzero(np.isfinite(means))
    if len(known) == 0:
        detail = f"no request finished between {start_s:.0f} and {end_s:.0f}, so nobody knows how long they are"
        raise SourceError(source="prometheus", reason="NoSeries", detail=detail)
    return np.asarray(np.interp(np.arange(len(means)), known, means[known]))


def _curve(client: Prometheus, query: str, start_s: float, end_s: float) -> Floats:
    """A value per minute, NaN where there is none; a day per question, so that no answer has too many points."""
    values = np.full(max(1, int((end_s - start_s) // STEP_S)), np.nan)
    begin_s = start_s + STEP_S  # the sample at a time stands for the minute before it
    while begin_s <= end_s:
        until_s = min(begin_s + SECONDS_PER_DAY - STEP_S, end_s)
        for series in client.custom_query_range(query, begin_s, until_s, f"{STEP_S}s", timeout=ANSWER_S):
            points = series.get("values")
            for time_s, text in points if isinstance(points, list) else ():
                index = round((float(time_s) - start_s) / STEP_S) - 1
                if isfinite(float(text)) and 0 <= index < len(values):
                    values[index] = float(text)
        begin_s = until_s + STEP_S
    return values
