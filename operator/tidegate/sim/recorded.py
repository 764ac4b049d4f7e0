"""
Traffic recorded in Prometheus: requests are synthesized from the recorded load of a deployment.

In:    a client, a deployment (its namespace and model), start and end.
Out:   a `Trace`: arrivals that follow the recorded rate of each minute, lengths with the recorded mean of each minute.
Rules: what Prometheus does not store is synthetic: arrivals within a minute are a gamma renewal process, lengths are
       lognormal, both with the variation of published chat traffic. A minute without samples counts as a minute
       without requests. The rate window is longer than a minute, because a rate needs two scrapes, so each value
       includes part of the previous minute.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

import numpy as np

from tidegate.domain.spec import DeploymentSpec
from tidegate.errors import SourceError, SpecError
from tidegate.observe.dialects import FLOW
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect, selector
from tidegate.sim.generators import CHAT, Floats, arrivals, spread
from tidegate.sim.traces import Trace
from tidegate.units import SECONDS_PER_DAY

STEP_S = 60
ANSWER_S = 20.0
# vLLM and SGLang put the model name that clients request on each of their series.
MODEL_LABEL = "model_name"
_METRICS = {signal.name: signal.metrics for signal in FLOW}


def check(deployments: Iterable[DeploymentSpec]) -> None:
    """
    Check that the metrics of these deployments can be told apart.

    Raises:
        SpecError: Two of them serve the same model in the same namespace.
    """
    served: dict[tuple[str, str], DeploymentSpec] = {}
    for spec in deployments:
        other = served.setdefault((spec.key.namespace, spec.model), spec)
        if other is not spec:
            allowed = f"both serve {spec.model} in one namespace, and its metrics do not tell their requests apart"
            raise SpecError(field="--prometheus", value=f"{other.key} and {spec.key}", allowed=allowed)


def recorded(
    client: Prometheus, spec: DeploymentSpec, dialect: Dialect, *, start_s: float, end_s: float, seed: int
) -> Trace:
    """
    Requests of one deployment between two unix times, from 0 at `start_s`.

    Args:
        dialect: How to query this server; the window must hold two scrapes.

    Raises:
        SourceError: Prometheus does not answer, or has no request of the model in that time and namespace.
    """
    dialect = dialect_of(spec.model, spec.key.namespace, dialect)
    rates = _curve(client, demand_query(dialect), start_s, end_s)
    if not np.nansum(rates) > 0:
        asked = ", ".join(f"{label}={value!r}" for label, value in dialect.matchers.items())
        detail = f"no requests of {asked} between {start_s:.0f} and {end_s:.0f}"
        raise SourceError(source="prometheus", reason="NoSeries", detail=detail)
    prompt, output = (_lengths(client, query(dialect), start_s, end_s) for query in (prompt_query, output_query))
    rng = np.random.default_rng(seed)
    at = arrivals(np.repeat(np.nan_to_num(rates), STEP_S), variation=1.2, rng=rng)
    minute = np.minimum((at / STEP_S).astype(np.int64), len(rates) - 1)
    return Trace(
        arrival_s=at,
        prompt_tokens=spread(prompt[minute], CHAT.prompt_variation, rng=rng),
        output_tokens=spread(output[minute], CHAT.output_variation, rng=rng),
        name=spec.model,
    )


def dialect_of(model: str, namespace: str | None, dialect: Dialect) -> Dialect:
    """The dialect, narrowed to the series of one model in a namespace (None: in all)."""
    place = {} if namespace is None else {dialect.namespace_label: namespace}
    return replace(dialect, matchers={**dialect.matchers, MODEL_LABEL: model, **place})


def demand_query(dialect: Dialect) -> str:
    """Arrival rate, requests/s, including requests that a full queue rejected."""
    return f"{_rate('started', dialect)} + ({_rate('rejected', dialect)} or vector(0))"


def prompt_query(dialect: Dialect) -> str:
    """Mean prompt tokens per request."""
    return _mean("prompt_length", "prompt_tokens", "started", dialect)


def output_query(dialect: Dialect) -> str:
    """Mean output tokens per request."""
    return _mean("output_length", "output_tokens", "finished", dialect)


def _mean(length: str, tokens: str, requests: str, dialect: Dialect) -> str:
    """Mean from the histogram of lengths, or (SGLang) from the counters of tokens and requests."""
    pairs = ((f"{length}_sum", f"{length}_count"), (tokens, requests))
    return " or ".join(f"{_rate(above, dialect)} / ({_rate(below, dialect)} > 0)" for above, below in pairs)


def _rate(signal: str, dialect: Dialect) -> str:
    """
    Rate summed over all replicas. Engines and versions use different metric names; each replica has one of them.

    A replica is a scrape target: `instance` identifies it if there is no pod label.
    """
    grouping = f"{dialect.grouping},instance"
    parts = [f"sum by ({grouping}) (rate({selector(metric, dialect)}{dialect.span}))" for metric in _METRICS[signal]]
    return f"sum({' or '.join(parts)})"


def _lengths(client: Prometheus, query: str, start_s: float, end_s: float) -> Floats:
    """Mean length per minute; minutes in which no request finished are interpolated."""
    means = _curve(client, query, start_s, end_s)
    known = np.flatnonzero(np.isfinite(means))
    if len(known) == 0:
        detail = f"no request finished between {start_s:.0f} and {end_s:.0f}, so nobody knows how long they are"
        raise SourceError(source="prometheus", reason="NoSeries", detail=detail)
    return np.asarray(np.interp(np.arange(len(means)), known, means[known]))


def _curve(client: Prometheus, query: str, start_s: float, end_s: float) -> Floats:
    """One value per minute, NaN where there is none. Each query covers a day, to stay below the limit of points."""
    values = np.full(max(1, int((end_s - start_s) // STEP_S)), np.nan)
    begin_s = start_s + STEP_S  # a sample stands for the minute before it
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
