"""
The demand of a model from Prometheus: current load, the last week, and request lengths.

No cluster is needed: series are selected by model name in the deployment's namespace, or in all namespaces if there
are none in it.
"""

import math

from tidegate import forecast
from tidegate.cli.plan.question import Load
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect
from tidegate.sim.recorded import MODEL_LABEL, demand_query, dialect_of, output_query, prompt_query
from tidegate.units import SECONDS_PER_DAY

# Window of the current rate, s, and step of the history, s: a week of it is below Prometheus' limit of 11,000 points.
WINDOW_S, STEP_S, DAYS = 300, 300, 7


def measured(client: Prometheus, key: Key, model: str, dialect: Dialect, *, time_s: float) -> Load:
    """
    The measured load of one deployment's model.

    Args:
        client: The Prometheus server.
        key: The deployment.
        model: Model name that clients request.
        dialect: How to query this server; the current rate is the mean over its window.
        time_s: Current time, unix seconds.

    Raises:
        SourceError: Prometheus does not answer, or has no requests of this model.
    """
    own = dialect_of(model, key.namespace, dialect)
    rate = _number(client, demand_query(own), time_s)
    if rate is None:
        own = dialect_of(model, None, dialect)
        rate = _number(client, demand_query(own), time_s)
    if rate is None:
        raise _silent(f"there are no requests of {MODEL_LABEL}={model!r}")
    prompt, output = (_number(client, query(own), time_s) for query in (prompt_query, output_query))
    if prompt is None or output is None:
        raise _silent(f"no requests of {MODEL_LABEL}={model!r} finished in the last {dialect.window_s:.0f} s")
    series = client.custom_query_range(demand_query(own), time_s - DAYS * SECONDS_PER_DAY, time_s, f"{STEP_S}s")
    history = _curve(series[0].get("values") if series else None) or [(time_s, rate)]
    memory = forecast.shaped(forecast.backfill(None, history=history), prompt_tokens=prompt, output_tokens=output)
    return Load(memory=memory, rate_rps=rate, prompt_tokens=prompt, output_tokens=output)


def _silent(detail: str) -> SourceError:
    return SourceError(source="prometheus", reason="NoSeries", detail=detail)


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
