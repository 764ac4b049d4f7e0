"""
Synthetic traffic with the statistics of real traffic.

A shape gives the arrival rate for each second. Arrivals are a gamma renewal process in operational time, so that they
are as bursty as real clients (coefficient of variation: Poisson is 1; the median of production clients is 1.0 to 1.4).
Lengths are lognormal.

Source: ServeGen (arXiv 2505.09999) for burstiness and onset of tenants, Azure LLM traces 2023 and 2024 for lengths and
the daily swing (chat 1.7 x mean at the peak hour, 0.46 x at the trough), Mooncake for long prompts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import SpecError
from tidegate.sim.traces import LONGEST_S, Trace
from tidegate.units import SECONDS_PER_HOUR

Floats = NDArray[np.float64]
Rates = NDArray[np.float64]  # requests/s for each second of the run; shape (seconds,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """
    Lengths in tokens: lognormal with these means and coefficients of variation.

    Args:
        longest: Longest prompt; answers are cut at half of it.
        hit: Share of prompt tokens found in the prefix cache, in [0, 1].
    """

    prompt: float
    output: float
    prompt_variation: float = 1.0
    output_variation: float = 0.8
    longest: int = 16_384
    hit: float = 0.0


CHAT = Lengths(prompt=1155, output=211, prompt_variation=0.96, output_variation=0.77)  # Azure chat 2023
CODE = Lengths(prompt=2048, output=28, prompt_variation=0.95, output_variation=1.4)  # Azure code 2023
REASONING = Lengths(prompt=500, output=1600, prompt_variation=1.2, output_variation=0.7)  # ServeGen r1-like
DOCUMENTS = Lengths(prompt=6000, output=250, prompt_variation=0.5, output_variation=0.6)  # Mooncake-like
LENGTHS = {"chat": CHAT, "code": CODE, "reasoning": REASONING, "documents": DOCUMENTS}


def generate(rates: Rates, lengths: Lengths, *, variation: float = 1.2, seed: int, name: str) -> Trace:
    """
    Requests that follow a rate curve.

    Args:
        rates: Requests/s per second of the run; shape (seconds,).
        variation: Coefficient of variation of the time between arrivals, > 0.
    """
    rng = np.random.default_rng(seed)
    at = arrivals(rates, variation=variation, rng=rng)
    prompt = spread(np.full(len(at), lengths.prompt), lengths.prompt_variation, rng=rng, longest=lengths.longest)
    output = spread(np.full(len(at), lengths.output), lengths.output_variation, rng=rng, longest=lengths.longest // 2)
    return Trace(
        arrival_s=at,
        prompt_tokens=prompt,
        output_tokens=output,
        hit_tokens=(prompt * lengths.hit).astype(np.int64),
        name=name,
    )


def arrivals(rates: Rates, *, variation: float, rng: np.random.Generator) -> Floats:
    """Arrival times, s, that follow a rate curve with one value per second: gamma renewal in operational time."""
    work = np.concatenate([[0.0], np.cumsum(rates)])
    count = int(work[-1] + 8 * variation * np.sqrt(work[-1] + 1) + 16)
    shape = 1.0 / variation**2
    at = np.cumsum(rng.gamma(shape, 1.0 / shape, count))
    at = at[at < work[-1]]
    return np.asarray(np.interp(at, work, np.arange(len(work), dtype=float)))


def spread(means: Floats, variation: float, *, rng: np.random.Generator, longest: int = 131_072) -> NDArray[np.int64]:
    """Lognormal token counts with the given means and coefficient of variation, in [1, longest]; shape as `means`."""
    squared = np.log1p(variation**2)
    draws = means * rng.lognormal(-squared / 2, np.sqrt(squared), len(means))
    return np.clip(draws, 1, longest).astype(np.int64)


def steady(*, rps: float, duration_s: float) -> Rates:
    """A constant rate."""
    return np.full(int(duration_s), rps)


def diurnal(*, rps: float, duration_s: float, period_s: float = 86_400.0, swing: float = 0.65) -> Rates:
    """A day: `rps` on average, (1 + swing) times that at the peak, the trough at the start, and an evening shoulder."""
    phase = 2 * np.pi * np.arange(int(duration_s)) / period_s
    wave = -np.cos(phase) + 0.25 * np.sin(2 * phase)
    return np.asarray(rps * np.maximum(0.05, 1 + swing * wave / np.abs(wave).max()))


def bursty(
    *, rps: float, duration_s: float, factor: float = 4.0, length_s: float = 240.0, every_s: float = 1500.0, seed: int
) -> Rates:
    """A base rate of `rps`, with bursts of `factor` times that, which begin abruptly at random times."""
    rng = np.random.default_rng(seed)
    rates = np.full(int(duration_s), rps)
    at = every_s * rng.uniform(0.4, 0.8)
    while at < duration_s:
        length = length_s * rng.uniform(0.7, 1.5)
        rates[int(at) : int(at + length)] = rps * factor
        at += length + every_s * rng.uniform(0.5, 1.5)
    return rates


def on_off(*, rps: float, duration_s: float, on_s: float = 900.0, off_s: float = 1800.0) -> Rates:
    """Full load and no load in turn, as of office tools or batch jobs."""
    second = np.arange(int(duration_s)) % (on_s + off_s)
    return np.where(second < on_s, rps, 0.0)


def ramp(*, levels: tuple[float, ...], duration_s: float) -> Rates:
    """Levels at equal distances over the run, joined by straight lines."""
    nodes = np.linspace(0, duration_s, len(levels))
    return np.interp(np.arange(int(duration_s)), nodes, levels)


def multi_tenant(*, rps: float, duration_s: float, seed: int, tenants: int = 8) -> Rates:
    """
    Tenants of unequal size that come and go; the largest has half of the load while all are active.

    Source: ServeGen: one tenant has 16 to 52 % of a service's load, and most steps are tenants that start.
    """
    rng = np.random.default_rng(seed)
    sizes = 0.5 ** np.arange(1, tenants + 1)
    total = np.zeros(int(duration_s))
    for size in sizes / sizes.sum():
        at, active = 0.0, bool(rng.random() < 0.7)
        while at < duration_s:
            length = rng.exponential(duration_s / 4)
            if active:
                total[int(at) : int(at + length)] += size
            at, active = at + length, not active
    return np.asarray(rps * total / max(total.mean(), 1e-9))


Shape = Callable[[float, float, int], Rates]
SHAPES: dict[str, Shape] = {
    "steady": lambda rps, duration_s, _: steady(rps=rps, duration_s=duration_s),
    "diurnal": lambda rps, duration_s, _: diurnal(rps=rps, duration_s=duration_s),
    "bursty": lambda rps, duration_s, seed: bursty(rps=rps, duration_s=duration_s, seed=seed),
    "on-off": lambda rps, duration_s, _: on_off(rps=rps, duration_s=duration_s),
    "ramp": lambda rps, duration_s, _: ramp(levels=(0.3 * rps, 1.7 * rps, 0.3 * rps), duration_s=duration_s),
    "multi-tenant": lambda rps, duration_s, seed: multi_tenant(rps=rps, duration_s=duration_s, seed=seed),
}


def parse(text: str, *, seed: int) -> Trace:
    """
    A trace from `SHAPE:RPS:HOURS[:LENGTHS]`, e.g. `diurnal:12:24:chat`.

    Raises:
        SpecError: The shape or the lengths do not exist, or a number is invalid.
    """
    name, *rest = text.split(":")
    if name not in SHAPES:
        raise SpecError(
            field="--trace", value=name, allowed=f"must be a file, or one of {', '.join(SHAPES)} as SHAPE:RPS:HOURS"
        )
    if not 2 <= len(rest) <= 3:
        raise SpecError(field="--trace", value=text, allowed="must be SHAPE:RPS:HOURS[:LENGTHS]")
    kind = rest[2] if len(rest) > 2 else "chat"
    if kind not in LENGTHS:
        raise SpecError(field="--trace", value=kind, allowed=f"LENGTHS must be one of {', '.join(LENGTHS)}")
    try:
        rps, hours = float(rest[0]), float(rest[1])
    except ValueError as fault:
        raise SpecError(field="--trace", value=text, allowed="RPS and HOURS must be numbers") from fault
    if not (0 < rps < np.inf and 0 < hours * SECONDS_PER_HOUR <= LONGEST_S):
        raise SpecError(
            field="--trace", value=text, allowed="RPS and HOURS must be finite and above 0, and HOURS at most a year"
        )
    return generate(SHAPES[name](rps, hours * SECONDS_PER_HOUR, seed), LENGTHS[kind], seed=seed, name=text)
