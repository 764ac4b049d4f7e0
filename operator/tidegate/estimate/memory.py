"""
What `estimate` remembers of a deployment between two ticks: a value per tier, under 700 bytes of JSON each.

Coefficients are stored as factors on the prior. Samples are stored as measured, so that the factors can be refitted
when the prior changes (`rebase`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from tidegate.domain.remembered import MOST, instant, number, optional, whole
from tidegate.estimate.requests import Requests
from tidegate.estimate.roofline import Coefficients

# Bounds of stored values. Learned factors lie between 0.05 and 20, and at least a twentieth of a prompt is computed,
# which is 51 steps.
FACTOR_LEAST, FACTOR_MOST = 0.01, 100.0
COMPUTED_LEAST = -100
SECONDS_LEAST, TOKENS_LEAST = 1e-9, 1e-3

UNCHANGED = Coefficients(a_s=1.0, b_s=1.0, c_s=1.0, p0_s=1.0, p1_s=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    One window of decoding of one tier in the terms of the law, per engine.

    Args:
        running: Mean number of requests that decode together with a given one, including it, >= 1.
        context: Mean tokens of context per running request.
        interference: Prompt tokens computed per output token.
        itl_s: Mean inter-token latency, s.
    """

    running: float
    context: float
    interference: float
    itl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Measured prefill of a mean prompt: prompt tokens computed, and the time for them without queue and decode, s."""

    tokens: float
    prefill_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupMemory:
    """Measured start-up times: running mean, mean absolute deviation and the last one, s; their number (capped)."""

    mean_s: float
    deviation_s: float
    last_s: float
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierMemory:
    """
    What is remembered of one tier.

    Args:
        mark: Checksum of the tier's configuration; another one means other hardware or weights, so learning restarts.
        base: Checksum of the prior's coefficients that the factors apply to.
        factors: Learned factors on the prior's coefficients.
        vector: True once the factors were fitted per coefficient instead of as one.
        samples: Bounded in number, spread over the operating range; oldest first.
        prompts: Measured prefills, at most one per doubling of the prompt length.
        windows: Windows learned from since the law last changed (capped).
        error: Mean relative error of predictions made before each window was learned.
        bias: The same with its sign.
        surprises: Windows in a row that did not fit, signed by direction.
        sampled_s: When the last window was used, unix seconds.
        compared_s: When predictions were last compared with measured misses and prefill, unix seconds.
        ready: Ready replicas at the last tick; None: never observed.
        changed_s: When that number last changed, unix seconds.
        prefix_hit: Share of prompt tokens found in the prefix cache, smoothed; None: not reported.
        computed: The share of prompt tokens left to compute, in steps (`requests.computed_step`); None: not reported.
        kv_cache_tokens: KV cache of one engine, tokens, as reported; None: not reported.
        held: KV cache that a running request holds over the tokens of its context, smoothed; None: as expected so far.
        misses: Learned factor on the predicted share of misses.
        dispersion, balanced: Mean `TierReading.dispersion` of the windows that had one, and their number (capped).
        startup: Measured start-up times; None: never observed.
    """

    mark: int
    base: int
    factors: Coefficients = UNCHANGED
    vector: bool = False
    samples: tuple[Sample, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    windows: int = 0
    error: float = 0.0
    bias: float = 0.0
    surprises: int = 0
    sampled_s: float = 0.0
    compared_s: float = 0.0
    ready: int | None = None
    changed_s: float = 0.0
    prefix_hit: float | None = None
    computed: int | None = None
    kv_cache_tokens: float | None = None
    held: float | None = None
    misses: float = 1.0
    dispersion: float = 1.0
    balanced: int = 0
    startup: StartupMemory | None = None

    def to_json(self) -> dict[str, object]:
        """Plain JSON values with short keys; unknown values are left out."""
        f, w = self.factors, self.startup
        values = {
            "m": self.mark,
            "a": self.base,
            "f": [f.a_s, f.b_s, f.c_s, f.p0_s, f.p1_s],
            "v": self.vector,
            "s": [[s.running, s.context, s.interference, s.itl_s] for s in self.samples],
            "p": [[p.tokens, p.prefill_s] for p in self.prompts],
            "n": [self.windows, self.error, self.bias, self.surprises],
            "t": [self.sampled_s, self.compared_s, self.changed_s],
            "r": self.ready,
            "h": self.prefix_hit,
            "c": self.computed,
            "k": self.kv_cache_tokens,
            "u": self.held,
            "x": self.misses,
            "b": [self.dispersion, self.balanced],
            "w": None if w is None else [w.mean_s, w.deviation_s, w.last_s, w.seen],
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "TierMemory":
        """The memory that `to_json` wrote. Raises KeyError, TypeError or ValueError if it is damaged."""
        a, b, c, p0, p1 = _factors(value["f"])
        windows, error = _numbers(_list(value["n"])[:2])
        bias, surprises = _numbers(_list(value["n"])[2:], least=-MOST)
        dispersion, balanced = _numbers(value["b"])
        sampled_s, compared_s, changed_s = [instant(at) for at in _list(value["t"])]
        (misses,) = _factors([value["x"]])
        return cls(
            mark=whole(value["m"]),
            base=whole(value["a"]),
            factors=Coefficients(a_s=a, b_s=b, c_s=c, p0_s=p0, p1_s=p1),
            vector=bool(value["v"]),
            samples=tuple([_sample(row) for row in _list(value["s"])]),
            prompts=tuple([_prompt(row) for row in _list(value["p"])]),
            windows=int(windows),
            error=error,
            bias=bias,
            surprises=int(surprises),
            sampled_s=sampled_s,
            compared_s=compared_s,
            ready=None if value.get("r") is None else whole(value["r"]),
            changed_s=changed_s,
            prefix_hit=optional(value.get("h"), most=1.0),
            computed=None if value.get("c") is None else whole(value["c"], least=COMPUTED_LEAST, most=0),
            kv_cache_tokens=optional(value.get("k"), least=1.0),
            held=optional(value.get("u"), least=FACTOR_LEAST, most=FACTOR_MOST),
            misses=misses,
            dispersion=dispersion,
            balanced=int(balanced),
            startup=_startup(value.get("w")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateMemory:
    """Memory by tier name, and the requests that estimates are made for; None: not set yet."""

    tiers: Mapping[str, TierMemory] = field(default_factory=dict)
    requests: Requests | None = None

    def forgiven(self, tiers: Collection[str]) -> "EstimateMemory":
        """
        The memory without the learned laws of those of these tiers that have no ready replica.

        Their next pods will be different and may be faster. Trying them once costs less than never using the tier
        again. If replicas are ready, the new ones will show what has changed. Start-up times are kept.
        """
        kept = {
            name: TierMemory(mark=old.mark, base=old.base, ready=0, changed_s=old.changed_s, startup=old.startup)
            if name in tiers and old.ready == 0
            else old
            for name, old in self.tiers.items()
        }
        return replace(self, tiers=kept)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` gives back an equal memory."""
        asked = None if self.requests is None else self.requests.to_json()
        return {"tiers": {name: tier.to_json() for name, tier in self.tiers.items()}, "requests": asked}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "EstimateMemory":
        """The memory that `to_json` wrote. Raises KeyError, TypeError or ValueError if it is damaged."""
        asked = value.get("requests")
        return cls(
            tiers={name: TierMemory.from_json(_mapping(tier)) for name, tier in _mapping(value["tiers"]).items()},
            requests=None if asked is None else Requests.from_json(cast(Sequence[int], asked)),
        )


def digits(value: float, count: int = 4) -> float:
    """The value rounded to `count` significant digits, as it is stored."""
    return float(f"{value:.{count}g}")


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"not a mapping: {value!r}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"not a list: {value!r}")
    return value


def _numbers(value: object, *, least: float = 0.0) -> list[float]:
    return [number(v, least=least) for v in _list(value)]


def _factors(value: object) -> list[float]:
    return [number(v, least=FACTOR_LEAST, most=FACTOR_MOST) for v in _list(value)]


def _sample(row: object) -> Sample:
    running, context, interference, itl_s = _numbers(row)
    if running < 1.0 or itl_s < SECONDS_LEAST:
        raise ValueError(f"not a sample: {row!r}")
    return Sample(running=running, context=context, interference=interference, itl_s=itl_s)


def _prompt(row: object) -> Prompt:
    tokens, prefill_s = _numbers(row)
    if tokens < TOKENS_LEAST or prefill_s < SECONDS_LEAST:
        raise ValueError(f"not a prompt: {row!r}")
    return Prompt(tokens=tokens, prefill_s=prefill_s)


def _startup(row: object) -> StartupMemory | None:
    if row is None:
        return None
    mean_s, deviation_s, last_s, seen = _numbers(row)
    if mean_s < SECONDS_LEAST:
        raise ValueError(f"not a start-up: {row!r}")
    return StartupMemory(mean_s=mean_s, deviation_s=deviation_s, last_s=last_s, seen=int(seen))
