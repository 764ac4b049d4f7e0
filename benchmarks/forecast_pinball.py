"""
Quality of the forecast: pinball loss on real traces, walk-forward, compared with simpler forecasts.

    python benchmarks/forecast_pinball.py --traces FOLDER [--only NAME ...] [--tick 15] [--window 60]

FOLDER contains `*.csv.gz` whose first column is the arrival time in seconds (docs/forecast.md names the traces). Each
tick sees the arrival rate of the last window, as Prometheus would report it, and forecasts the rate that the tick one
horizon later sees. Nothing is fitted beforehand and no tick sees the future. Losses are in % of the trace's mean load;
lower is better.

The methods, each more complete than the one before; all but the first take quantiles from their own observed errors:
    now      the current rate at every level
    last     last value
    level    mix of last value and three smoothed levels
    trend    + damped trend
    season   + time of day and hour of week
    tidegate the product: + interpolation between recorded horizons, + the current load as a floor
"""

import argparse
import gzip
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.forecast import DemandSample
from tidegate.forecast import ForecastMemory, experts, sketch
from tidegate.forecast.expect import predict
from tidegate.forecast.learn import advanced
from tidegate.forecast.track import HORIZONS_S as RECORDS_S
from tidegate.forecast.track import LOSS_GAIN, PRIOR_SAMPLES, PRIOR_SPREADS, rooted, squared, unit_rps

HORIZONS_S = (60.0, 120.0, 300.0, 600.0)
LEVELS = (0.5, 0.9, 0.95, 0.99)
LADDER = {"last": (0,), "level": (0, 1, 2, 3), "trend": (0, 1, 2, 3, 4), "season": (0, 1, 2, 3, 4, 5)}
START_S = 1.7e9 - 1.7e9 % 604_800
EVERY_S = 60.0

Array = NDArray[np.float64]


@dataclass(slots=True)
class Rung:
    """One method at one horizon: a mix of some experts, and its observed errors."""

    chosen: tuple[int, ...]
    errors: sketch.Sketch
    losses: list[float] = field(default_factory=lambda: [0.1] * len(experts.EXPERTS))

    def expected(self, each: Sequence[float]) -> float:
        """The mix of the chosen experts."""
        shares = experts.weights([self.losses[i] for i in self.chosen])
        return max(sum(share * each[i] for share, i in zip(shares, self.chosen, strict=True)), 0.0)

    def learn(self, *, each: Sequence[float], mixed: float, seen: float, usual: float) -> None:
        """Learn from a past forecast and the rate that was observed."""
        unit = unit_rps(usual)
        for i in self.chosen:
            miss = abs(seen - max(each[i], 0.0)) / unit
            self.losses[i] += LOSS_GAIN * (miss - self.losses[i])
        self.errors = sketch.add(self.errors, rooted(seen, unit) - rooted(mixed, unit))


def arrivals(path: Path) -> Array:
    """Arrival times of a trace, s; shape (requests,)."""
    with gzip.open(path, "rt") as lines:
        return np.loadtxt(lines, delimiter=",", skiprows=1, usecols=0)


def seen_rates(times: Array, *, tick_s: float, window_s: float) -> Array:
    """The arrival rate over the last window at each tick, requests/s; shape (ticks,)."""
    ticks = np.arange(times[0] + window_s, times[-1], tick_s)
    counts = np.searchsorted(times, ticks, side="right") - np.searchsorted(times, ticks - window_s, side="right")
    return counts / window_s


def walk(rates: Array, *, tick_s: float, window_s: float) -> Iterator[tuple[int, ForecastMemory]]:
    """The forecast's memory after each tick."""
    memory = ForecastMemory()
    for i, rate in enumerate(rates):
        sample = DemandSample(
            arrival_rps=float(rate), prompt_tokens=None, output_tokens=None, queued=0.0, window_s=window_s
        )
        memory = advanced(memory, sample, time_s=START_S + i * tick_s)
        yield i, memory


def forecasts(rates: Array, *, tick_s: float, window_s: float) -> dict[str, Array]:
    """Quantiles of each method at each tick; shape (ticks, horizons, levels)."""
    shape = (len(rates), len(HORIZONS_S), len(LEVELS))
    found = {name: np.zeros(shape) for name in ("now", *LADDER, "tidegate")}
    priors = [sketch.prior(PRIOR_SPREADS[nearest(h)], samples=PRIOR_SAMPLES) for h in HORIZONS_S]
    rungs = {(name, j): Rung(chosen, prior) for name, chosen in LADDER.items() for j, prior in enumerate(priors)}
    made: dict[int, list[tuple[float, ...]]] = {j: [] for j in range(len(HORIZONS_S))}
    mixes: dict[tuple[str, int], list[float]] = {key: [] for key in rungs}
    for i, memory in walk(rates, tick_s=tick_s, window_s=window_s):
        unit, now = unit_rps(memory.usual_rps), START_S + i * tick_s
        found["now"][i] = rates[i]
        demand = predict(memory, horizons_s=HORIZONS_S, time_s=now)
        for j, horizon in enumerate(HORIZONS_S):
            found["tidegate"][i, j] = [demand.horizons[j].quantile(level) for level in LEVELS]
            factor = experts.season_factor(memory.season, time_s=now, horizon_s=horizon)
            each = experts.forecasts(memory.levels, carry=experts.reach(horizon), factor=factor)
            made[j].append(each)
            before = i - round(horizon / tick_s)
            for name in LADDER:
                rung = rungs[name, j]
                if before >= 0 and i % round(EVERY_S / tick_s) == 0:
                    past = mixes[name, j][before]
                    rung.learn(each=made[j][before], mixed=past, seen=float(rates[i]), usual=memory.usual_rps)
                mixes[name, j].append(rung.expected(each))
                base = rooted(mixes[name, j][-1], unit)
                quantiles = sketch.quantiles(rung.errors, LEVELS)
                found[name][i, j] = [max(squared(base + x, unit), 0.0) for x in quantiles]
    return found


def nearest(horizon_s: float) -> int:
    """Index of the product's recorded horizon nearest to a horizon, whose prior every method uses."""
    return min(range(len(RECORDS_S)), key=lambda i: abs(math.log(RECORDS_S[i] / horizon_s)))


def pinball(quantiles: Array, rates: Array, *, tick_s: float) -> Array:
    """Mean loss in % of the mean load; shape (horizons, levels)."""
    loss = np.zeros((len(HORIZONS_S), len(LEVELS)))
    for j, horizon in enumerate(HORIZONS_S):
        ahead = round(horizon / tick_s)
        for k, level in enumerate(LEVELS):
            miss = rates[ahead:] - quantiles[:-ahead, j, k]
            loss[j, k] = np.maximum(level * miss, (level - 1.0) * miss).mean() / rates.mean() * 100.0
    return loss


def losses(path: Path, *, tick_s: float, window_s: float) -> dict[str, Array]:
    """Loss of each method on one trace, in % of the mean load; shape (horizons, levels) each."""
    rates = seen_rates(arrivals(path), tick_s=tick_s, window_s=window_s)
    found = forecasts(rates, tick_s=tick_s, window_s=window_s)
    return {name: pinball(quantiles, rates, tick_s=tick_s) for name, quantiles in found.items()}


def row(name: object, column: object, values: Sequence[float], digits: int) -> str:
    """One line of a Markdown table."""
    return f"| {name} | {column} | " + " | ".join(f"{value:.{digits}f}" for value in values) + " |"


def report(measured: dict[str, dict[str, Array]]) -> None:
    """Print the tables: loss by trace and horizon, and by level the ratio to the method `last`."""
    methods = list(next(iter(measured.values())))
    head = " | ".join(methods)
    print(f"| trace | horizon s | {head} |\n|---|---|" + "---|" * len(methods))
    for trace, by_method in measured.items():
        for j, horizon in enumerate(HORIZONS_S):
            print(row(trace, int(horizon), [by_method[m][j].mean() for m in methods], 2))
    print(f"\n| | level | {head} |\n|---|---|" + "---|" * len(methods))
    for k, level in enumerate(LEVELS):
        ratios = [[np.log(m[name][:, k] / m["last"][:, k]).mean() for m in measured.values()] for name in methods]
        print(row("ratio to last", level, [float(np.exp(np.mean(r))) for r in ratios], 3))


def main() -> None:
    """Evaluate all traces in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--tick", type=float, default=15.0)
    parser.add_argument("--window", type=float, default=60.0)
    asked = parser.parse_args()
    paths = sorted(p for p in asked.traces.glob("*.csv.gz") if not asked.only or p.name.split(".")[0] in asked.only)
    report({p.name.split(".")[0]: losses(p, tick_s=asked.tick, window_s=asked.window) for p in paths})


if __name__ == "__main__":
    main()
