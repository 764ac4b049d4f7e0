"""
Traffic that Prometheus remembers: the load of a model over a span of time, made into requests again.

In:    a client, the name clients ask for, from when to when.
Out:   a `Trace`: arrivals that follow the recorded rate minute by minute, lengths with the mean of each minute.
Rules: what Prometheus does not keep is stated, not hidden: arrivals within a minute are a gamma renewal process and
       lengths lognormal, both with the spread of published chat traffic. A minute without samples had no requests.
"""

from math import isfinite

import numpy as np

from tidegate.errors import SourceError
from tidegate.observe.dialects import FLOW
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect, selector
from tidegate.sim.generators import CHAT, Floats, arrivals, spread
from tidegate.sim.traces import Trace
from tidegate.units import SECONDS_PER_DAY

STEP_S = 60
ANSWER_S = 20.0
MODEL_LABEL = "model_name"
_METRICS = {signal.name: signal.metrics for signal in FLOW}


def recorded(client: Prometheus, model: str, *, start_s: float, end_s: float, seed: int) -> Trace:
    """
    Requests of one model between two unix times.

    Raises:
        SourceError: Prometheus does not answer, or remembers no request of this model in that span.
    """
    dialect = Dialect(matchers={MODEL_LABEL: model})
    rates = _curve(client, f"{_rate('started', dialect)} + ({_rate('rejected', dialect)} or vector(0))", start_s, end_s)
    if not np.nansum(rates) > 0:
        detail = f"no request of {MODEL_LABEL}={model!r} between {start_s:.0f} and {end_s:.0f}"
        raise SourceError(source="prometheus", reason="NoSeries", detail=detail)
    prompt, output = (_lengths(client, dialect, name, start_s, end_s) for name in ("prompt_length", "output_length"))
    dice = np.random.default_rng(seed)
    at = arrivals(np.repeat(np.nan_to_num(rates), STEP_S), variation=1.2, dice=dice)
    minute = np.minimum((at / STEP_S).astype(np.int64), len(rates) - 1)
    return Trace(
        arrival_s=at,
        prompt_tokens=spread(prompt[minute], CHAT.prompt_variation, dice=dice),
        output_tokens=spread(output[minute], CHAT.output_variation, dice=dice),
        name=model,
    )


def _lengths(client: Prometheus, dialect: Dialect, name: str, start_s: float, end_s: float) -> Floats:
    """Mean length per minute; minutes in which nothing finished take that of their neighbours."""
    query = f"{_rate(f'{name}_sum', dialect)} / {_rate(f'{name}_count', dialect)}"
    means = _curve(client, query, start_s, end_s)
    known = np.flatnonzero(np.isfinite(means))
    if len(known) == 0:
        detail = f"no finished request tells the {name.replace('_', ' ')} between {start_s:.0f} and {end_s:.0f}"
        raise SourceError(source="prometheus", reason="NoSeries", detail=detail)
    return np.asarray(np.interp(np.arange(len(means)), known, means[known]))


def _rate(signal: str, dialect: Dialect) -> str:
    """Per second over all replicas, in the minute that ends at the sample; each server speaks one of the names."""
    parts = [f"sum(rate({selector(metric, dialect)}[{STEP_S}s]))" for metric in _METRICS[signal]]
    return "(" + " or ".join(parts) + ")"


def _curve(client: Prometheus, query: str, start_s: float, end_s: float) -> Floats:
    """A value per minute, NaN where there is none; a day per question, so that no answer has too many points."""
    values = np.full(max(1, int((end_s - start_s) // STEP_S)), np.nan)
    begin_s = start_s + STEP_S  # the sample at a time tells the minute before it
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
