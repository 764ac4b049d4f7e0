"""
The demand of a model as Prometheus knows it: the load of now, a week of it, and what its requests look like.

Series are found by the label `model_name` that vLLM and SGLang put on each of theirs, so no cluster is asked: those of
the deployment's namespace, or all there are where it has none.
"""

import math
from dataclasses import replace

from tidegate import forecast
from tidegate.cli.plan.question import Load
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.observe.dialects import FLOW
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect, selector
from tidegate.units import SECONDS_PER_DAY

# The window of now, and the step of the past: a week of it stays below the 11,000 points that a server gives.
WINDOW_S, STEP_S, DAYS = 300, 300, 7
MODEL_LABEL = "model_name"

_METRICS = {signal.name: signal.metrics for signal in FLOW}


def measured(client: Prometheus, key: Key, model: str, *, time_s: float) -> Load:
    """
    The load of one deployment's model.

    Args:
        client: Where to ask.
        key: The deployment.
        model: The name that clients ask for.
        time_s: Now, unix seconds.

    Raises:
        SourceError: Prometheus does not answer, or knows no request of this model.
    """
    everywhere = Dialect(matchers={MODEL_LABEL: model})
    dialect = replace(everywhere, matchers={MODEL_LABEL: model, everywhere.namespace_label: key.namespace})
    rate = _number(client, _arrivals(dialect), time_s)
    if rate is None:
        dialect = everywhere
        rate = _number(client, _arrivals(dialect), time_s)
    if rate is None:
        raise _silent(f"no request of {MODEL_LABEL}={model!r} is known")
    prompt = _number(client, _mean("prompt_length", ("prompt_tokens", "started"), dialect), time_s)
    output = _number(client, _mean("output_length", ("output_tokens", "finished"), dialect), time_s)
    if prompt is None or output is None:
        raise _silent(f"no request of {MODEL_LABEL}={model!r} finished in the last {WINDOW_S} s")
    series = client.custom_query_range(_arrivals(dialect), time_s - DAYS * SECONDS_PER_DAY, time_s, f"{STEP_S}s")
    history = _curve(series[0].get("values") if series else None) or [(time_s, rate)]
    memory = forecast.shaped(forecast.backfill(None, history=history), prompt_tokens=prompt, output_tokens=output)
    return Load(memory=memory, rate_rps=rate, prompt_tokens=prompt, output_tokens=output)


def _silent(detail: str) -> SourceError:
    return SourceError(source="prometheus", reason="NoSeries", detail=detail)


def _arrivals(dialect: Dialect) -> str:
    return f"{_rate('started', dialect)} + ({_rate('rejected', dialect)} or vector(0))"


def _rate(signal: str, dialect: Dialect) -> str:
    """
    Per second over all replicas. A fleet of several servers and versions speaks several names, each replica one.

    A replica is a scraped target: where nothing names its pod, its `instance` still does.
    """
    grouping = f"{dialect.grouping},instance"
    parts = [f"sum by ({grouping}) (rate({selector(metric, dialect)}[{WINDOW_S}s]))" for metric in _METRICS[signal]]
    return f"sum({' or '.join(parts)})"


def _mean(length: str, counters: tuple[str, str], dialect: Dialect) -> str:
    """Mean tokens per request: from the length histogram, else tokens per request of the counters."""
    pairs = ((f"{length}_sum", f"{length}_count"), counters)
    return " or ".join(f"{_rate(tokens, dialect)} / ({_rate(requests, dialect)} > 0)" for tokens, requests in pairs)


def _number(client: Prometheus, query: str, time_s: float) -> float | None:
    answer = client.custom_query(query, params={"time": f"{time_s:.3f}"})
    point = answer[0].get("value") if answer else None
    if not isinstance(point, list | tuple) or len(point) != 2:
        return None
    value = float(point[1])
    return value if math.isfinite(value) else None


def _curve(points: object) -> list[tuple[float, float]]:
    if not isinstance(points, list):
        return []
    return [(float(time_s), float(text)) for time_s, text in points if math.isfinite(float(text))]
