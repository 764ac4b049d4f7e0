"""
Arrivals: a generated day, or a trace from a file.

In:    a shape or a CSV (`arrival_s,input_tokens,output_tokens`).
Out:   arrivals in order, in seconds of the replay.
Rules: the rate in requests/s does not change when a day passes faster: time is compressed and requests are thinned by
       the same factor. All requests of a day within minutes would be a different, far larger service.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, isfinite, nan, pi
from pathlib import Path

import numpy as np

from tidegate.errors import SpecError
from tidegate.units import SECONDS_PER_DAY

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
STEP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request: arrival, s from the start of the replay, and lengths in tokens."""

    time_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    A service's day.

    Args:
        peak_rps: Highest rate of the daily curve without bursts, requests/s.
        night_share: Lowest rate relative to the highest.
        prompt_tokens, output_tokens: Mean lengths.
        variation: Coefficient of variation of both lengths.
        bursts: When bursts begin, as shares of the day; each lasts a fortieth of the day.
        burst_factor: Factor on the rate during a burst.
    """

    peak_rps: float = 12.0
    night_share: float = 0.1
    prompt_tokens: float = 300.0
    output_tokens: float = 220.0
    variation: float = 0.4
    bursts: tuple[float, ...] = (0.47, 0.72)
    burst_factor: float = 1.4

    def rate_rps(self, share: float) -> float:
        """Requests/s at that share of the day: low at night, highest after noon, plus bursts."""
        wave = 0.5 - 0.5 * cos(2 * pi * (share - 0.06))
        level = self.night_share + (1 - self.night_share) * wave
        burst = any(begin <= share < begin + 0.025 for begin in self.bursts)
        return self.peak_rps * level * (self.burst_factor if burst else 1.0)


def day(shape: Shape, *, duration_s: float, seed: int) -> list[Arrival]:
    """
    One day of that shape, compressed into `duration_s`.

    Arrivals are Poisson, lengths gamma-distributed; the same seed gives the same day.
    """
    chance = np.random.default_rng(seed)
    times: list[float] = []
    for begin in np.arange(0.0, duration_s, STEP_S):
        count = chance.poisson(shape.rate_rps((begin + STEP_S / 2) / duration_s) * STEP_S)
        times += sorted(float(t) for t in begin + STEP_S * chance.random(count))
    prompts = _lengths(chance, shape.prompt_tokens, shape.variation, len(times))
    outputs = _lengths(chance, shape.output_tokens, shape.variation, len(times))
    return [
        Arrival(time_s=t, prompt_tokens=p, output_tokens=o)
        for t, p, o in zip(times, prompts, outputs, strict=True)
        if t < duration_s
    ]


def read_csv(path: Path, *, speed: float, duration_s: float | None, seed: int) -> list[Arrival]:
    """
    A trace from a file (gzipped if it ends in .gz).

    Args:
        path: CSV with the columns `arrival_s,input_tokens,output_tokens`, sorted by arrival.
        speed: Seconds of the trace per second of the replay, >= 1. One request in `speed` is kept, at random.
        duration_s: Length of the replay; None: the whole trace.
        seed: Seed of the thinning.

    Raises:
        SpecError: `speed` is below 1, or the file is not such a trace.
    """
    if speed < 1:
        raise SpecError(field="--speed", value=speed, allowed="must be 1 or more: a trace is not slowed down")
    chance = np.random.default_rng(seed)
    arrivals: list[Arrival] = []
    start_s: float | None = None
    for number, (time_s, prompt, output) in enumerate(_rows(path), start=2):
        start_s = time_s if start_s is None else start_s
        at_s = (time_s - start_s) / speed
        if duration_s is not None and at_s >= duration_s:
            break
        if arrivals and at_s < arrivals[-1].time_s:
            raise SpecError(
                field=f"{path} line {number}", value=time_s, allowed="must not be earlier than the line before"
            )
        if speed == 1 or chance.random() < 1 / speed:
            arrivals.append(Arrival(time_s=at_s, prompt_tokens=max(1, int(prompt)), output_tokens=max(1, int(output))))
    if not arrivals:
        raise SpecError(
            field=str(path), value=None, allowed=f"must be a CSV with {','.join(COLUMNS)} and at least one request"
        )
    return arrivals


def day_speed(duration_s: float) -> float:
    """Speed at which a day passes in `duration_s`."""
    return SECONDS_PER_DAY / duration_s


def peak_rps(arrivals: Sequence[Arrival], window_s: float) -> float:
    """Highest mean rate over a window of that length, requests/s."""
    times = np.array([arrival.time_s for arrival in arrivals])
    if not len(times):
        return 0.0
    inside = np.searchsorted(times, times + window_s, side="left") - np.arange(len(times))
    return float(inside.max()) / window_s


def _lengths(chance: np.random.Generator, mean: float, variation: float, count: int) -> list[int]:
    shape = 1 / variation**2
    return [max(1, round(float(x))) for x in chance.gamma(shape, mean / shape, count)]


def _rows(path: Path) -> Iterator[list[float]]:
    """Time, prompt and output tokens of each request."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), start=2):
                yield _numbers(row, where=f"{path} line {number}")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as fault:
        raise SpecError(
            field="--trace", value=str(path), allowed=f"must be a readable CSV file in UTF-8 ({fault})"
        ) from fault


def _numbers(row: dict[str, str], *, where: str) -> list[float]:
    try:
        values = [float(row[name]) for name in COLUMNS]
    except (KeyError, TypeError, ValueError):
        values = [nan]
    if not all(map(isfinite, values)):
        raise SpecError(field=where, value=dict(row), allowed=f"must have numbers in the columns {','.join(COLUMNS)}")
    return values
