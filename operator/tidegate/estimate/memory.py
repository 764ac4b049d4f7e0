"""
What `estimate` remembers of a deployment between two ticks: a value per tier, under 700 bytes of JSON each.

Coefficients are remembered as factors on the prior, so that a memory is small and a better table still helps; samples
are remembered as they were seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from tidegate.estimate.roofline import Coefficients

# Factors move in steps of two percent: finer is noise, and a law that stands still keeps what was computed from it.
FACTOR_STEP = 1.02


UNCHANGED = Coefficients(a_s=1.0, b_s=1.0, c_s=1.0, p0_s=1.0, p1_s=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One window of one tier as the law sees it, per replica.

    Args:
        running: Requests decoding together with the one that is timed, itself included, >= 1.
        context: Tokens of context per running request.
        interference: Prompt tokens computed per output token and running request.
        itl_s: Mean inter-token latency.
    """

    running: float
    context: float
    interference: float
    itl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupMemory:
    """Start-ups seen: running mean and mean deviation, s, and how many (capped)."""

    mean_s: float
    deviation_s: float
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierMemory:
    """
    What is remembered of one tier.

    Args:
        mark: Checksum of how the tier serves; another one means other hardware or weights: start again.
        factors: Learned factors on the prior's coefficients.
        vector: True once the factors were fitted one by one, not all as one.
        samples: Bounded, spread over the operating range; newest of each range last.
        windows: Samples taken so far (capped): how much was seen.
        error: Mean relative error of predictions made before the sample was learned.
        surprises: Samples in a row that did not fit, signed by direction.
        sampled_s: When the last sample was taken.
        ready: Ready replicas at the last tick; None: never seen.
        changed_s: When that number last changed.
        prefix_hit: Share of prompt tokens found in the cache, smoothed; None: not reported.
        kv_cache_tokens: As one replica reports it; None: not reported.
        misses: Learned factor on the share of requests predicted to miss.
        startup: None: never seen.
    """

    mark: int
    factors: Coefficients = UNCHANGED
    vector: bool = False
    samples: tuple[Sample, ...] = ()
    windows: int = 0
    error: float = 0.0
    surprises: int = 0
    sampled_s: float = 0.0
    ready: int | None = None
    changed_s: float = 0.0
    prefix_hit: float | None = None
    kv_cache_tokens: float | None = None
    misses: float = 1.0
    startup: StartupMemory | None = None

    def to_json(self) -> dict[str, object]:
        """Plain JSON values with short keys; numbers rounded to what they are good for."""
        f = self.factors
        value: dict[str, object] = {
            "m": self.mark,
            "f": [f.a_s, f.b_s, f.c_s, f.p0_s, f.p1_s],
            "v": self.vector,
            "s": [[s.running, s.context, s.interference, s.itl_s] for s in self.samples],
            "n": self.windows,
            "e": self.error,
            "u": self.surprises,
            "t": self.sampled_s,
            "r": self.ready,
            "c": self.changed_s,
            "h": self.prefix_hit,
            "k": self.kv_cache_tokens,
            "x": self.misses,
        }
        if self.startup is not None:
            value["w"] = [self.startup.mean_s, self.startup.deviation_s, self.startup.seen]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "TierMemory":
        """The memory that `to_json` wrote; KeyError, TypeError or ValueError where it is none."""
        a, b, c, p0, p1 = _numbers(value["f"])
        startup = value.get("w")
        return cls(
            mark=int(_number(value["m"])),
            factors=Coefficients(a_s=a, b_s=b, c_s=c, p0_s=p0, p1_s=p1),
            vector=bool(value["v"]),
            samples=tuple(_sample(row) for row in cast(Sequence[object], value["s"])),
            windows=int(_number(value["n"])),
            error=_number(value["e"]),
            surprises=int(_number(value["u"])),
            sampled_s=_number(value["t"]),
            ready=None if value["r"] is None else int(_number(value["r"])),
            changed_s=_number(value["c"]),
            prefix_hit=_optional(value["h"]),
            kv_cache_tokens=_optional(value["k"]),
            misses=_number(value["x"]),
            startup=None if startup is None else _startup(startup),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateMemory:
    """Memory by tier name."""

    tiers: Mapping[str, TierMemory] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` gives back an equal memory."""
        return {"tiers": {name: tier.to_json() for name, tier in self.tiers.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "EstimateMemory":
        """The memory that `to_json` wrote; KeyError, TypeError or ValueError where it is none."""
        tiers = cast(Mapping[str, Mapping[str, object]], value["tiers"])
        return cls(tiers={name: TierMemory.from_json(tier) for name, tier in tiers.items()})


def digits(value: float, count: int = 4) -> float:
    """The value to so many significant digits: what a memory stores."""
    return float(f"{value:.{count}g}")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {value!r}")
    return float(value)


def _numbers(value: object) -> list[float]:
    return [_number(v) for v in cast(Sequence[object], value)]


def _optional(value: object) -> float | None:
    return None if value is None else _number(value)


def _sample(row: object) -> Sample:
    running, context, interference, itl_s = _numbers(row)
    return Sample(running=running, context=context, interference=interference, itl_s=itl_s)


def _startup(row: object) -> StartupMemory:
    mean_s, deviation_s, seen = _numbers(row)
    return StartupMemory(mean_s=mean_s, deviation_s=deviation_s, seen=int(seen))
