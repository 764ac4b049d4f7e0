"""
The fixed scenarios with which every version of the product is measured.

Each takes one to three simulated hours and needs a handful of replicas: in a large fleet one replica more or less
hardly matters. Prices are typical market prices. The true step times are the built-in priors, unless the scenario
tests what happens when they are wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec, Quality, ScaleToZero, Slo, TierSpec
from tidegate.errors import SpecError
from tidegate.sim import generators as make
from tidegate.sim.generators import Lengths
from tidegate.sim.scenario import Fault, Pool, Scenario, Service, Startup, Trouble
from tidegate.sim.traces import Trace
from tidegate.sim.truth import Twist, truths_of

HOUR = 3600.0
PRICES = {"nvidia-h100": 3.0, "nvidia-h200": 3.8, "nvidia-a100": 1.6, "nvidia-l40s": 1.2, "nvidia-b200": 5.5}
# Quality by tier name: score relative to full precision, from published evaluations.
QUALITY = {"bf16": 1.0, "fp8": 0.995, "int4": 0.96}
LLAMA_8B, QWEN_32B, LLAMA_70B = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B", "meta-llama/Llama-3.1-70B"

Seeded = Callable[[int], Scenario]


def accelerator(name: str, capacity: int | None = 64) -> Accelerator:
    """An accelerator class at the suite's price."""
    return Accelerator(name=name, price_usd_per_hour=PRICES[name], capacity=capacity)


def tiers(accelerator_name: str, widths: Mapping[str, int], *, most: int = 24) -> tuple[TierSpec, ...]:
    """One tier per precision on one accelerator class; `widths`: accelerators per replica, by tier name."""
    return tuple(
        TierSpec(
            name=name,
            quality=QUALITY[name],
            accelerator=accelerator_name,
            accelerators_per_replica=width,
            replicas_min=0,
            replicas_max=most,
        )
        for name, width in widths.items()
    )


def spec(name: str, model: str, slo: Slo, options: tuple[TierSpec, ...], **more: object) -> DeploymentSpec:
    """A deployment with the suite's replica bounds, 1 to 24 unless stated in `more`."""
    bounds = {"replicas_min": 1, "replicas_max": 24} | more
    return DeploymentSpec(key=Key("suite", name), model=model, slo=slo, tiers=options, **bounds)  # type: ignore[arg-type]


def service(
    of: DeploymentSpec, traffic: Trace, initial: Mapping[str, int], *, twists: Mapping[str, Twist] | None = None
) -> Service:
    """A deployment whose true performance is that of the built-in priors, changed by `twists`."""
    accelerators = {t.accelerator: accelerator(t.accelerator) for t in of.tiers}
    return Service(spec=of, traffic=traffic, truths=truths_of(of, accelerators, twists), initial=initial)


def scenario(
    name: str, services: tuple[Service, ...], *, hours: float, seed: int, capacity: int | None = 64,
    faults: tuple[Fault, ...] = (),
) -> Scenario:  # fmt: skip
    """A scenario with one pool per accelerator class in use, at the suite's prices."""
    names = sorted({t.accelerator for s in services for t in s.spec.tiers})
    pools = {n: Pool(accelerator=accelerator(n, capacity)) for n in names}
    return Scenario(name=name, services=services, pools=pools, duration_s=hours * HOUR, faults=faults, seed=seed)


CHAT_SLO = Slo(ttft_s=1.0, itl_s=0.040, attainment=0.99)
# L40S servers are so slow that even traffic that simulates in a second needs a handful of them.
SMALL_SLO = Slo(ttft_s=1.5, itl_s=0.060, attainment=0.99)
H100, A100, L40S = "nvidia-h100", "nvidia-a100", "nvidia-l40s"
QUESTIONS = Lengths(prompt=400, output=300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """
    Synthetic traffic.

    Args:
        rates: Requests/s, one value per second.
        lengths: Prompt and output lengths.
        variation: Coefficient of variation of the time between arrivals; 1: Poisson.
    """

    rates: make.Rates
    lengths: Lengths
    variation: float = 1.2


def day(mean_rps: float, hours: float) -> make.Rates:
    """A day's load curve, compressed into `hours`."""
    return make.diurnal(rps=mean_rps, duration_s=hours * HOUR, period_s=hours * HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """What is unusual about a run: faults, deviations from the priors, accelerators per pool."""

    faults: tuple[Fault, ...] = ()
    twists: Mapping[str, Twist] = field(default_factory=dict)
    capacity: int | None = 64


def single(
    of: DeploymentSpec, flow: Flow, *, name: str, initial: Mapping[str, int], seed: int, extra: Extra | None = None
) -> Scenario:
    """A scenario with one deployment."""
    extra = extra or Extra()
    traffic = make.generate(flow.rates, flow.lengths, variation=flow.variation, seed=seed, name=name)
    one = service(of, traffic, initial, twists=extra.twists)
    hours = len(flow.rates) / HOUR
    return scenario(name, (one,), hours=hours, seed=seed, faults=extra.faults, capacity=extra.capacity)


def steady(seed: int) -> Scenario:
    """Steady load: the fleet should stop moving, and be no larger than needed."""
    of = spec("chat", LLAMA_8B, CHAT_SLO, tiers(H100, {"bf16": 1, "fp8": 1, "int4": 1}))
    return single(
        of,
        Flow(rates=make.steady(rps=60, duration_s=HOUR), lengths=make.CHAT),
        name="steady",
        initial={"bf16": 4},
        seed=seed,
    )


def diurnal(seed: int) -> Scenario:
    """A day squeezed into two hours on small GPUs."""
    of = spec("chat", LLAMA_8B, SMALL_SLO, tiers(L40S, {"bf16": 1, "fp8": 1, "int4": 1}))
    return single(of, Flow(rates=day(16, 2), lengths=make.CHAT), name="diurnal", initial={"bf16": 3}, seed=seed)


def burst(seed: int) -> Scenario:
    """Load jumps to four times its floor within seconds, for minutes, at random."""
    of = spec("chat", QWEN_32B, Slo(ttft_s=3.0, itl_s=0.060, attainment=0.95), tiers(H100, {"bf16": 2, "fp8": 1}))
    rates = make.bursty(rps=6, duration_s=2 * HOUR, seed=seed)
    return single(of, Flow(rates=rates, lengths=make.CHAT), name="burst-x4", initial={"bf16": 1}, seed=seed)


def ramp(seed: int) -> Scenario:
    """2 to 10 and back to 1 requests/s of 4,000-token prompts: the shape llm-d publishes for its SLO-aware rule."""
    lengths = Lengths(prompt=4000, output=1000, prompt_variation=0.05, output_variation=0.2)
    of = spec("chat", QWEN_32B, Slo(ttft_s=3.0, itl_s=0.100, attainment=0.95), tiers(H100, {"bf16": 2, "fp8": 2}))
    rates = make.ramp(levels=(2, 2, 6, 10, 10, 6, 2, 1, 1), duration_s=HOUR)
    return single(of, Flow(rates=rates, lengths=lengths), name="ramp", initial={"bf16": 3}, seed=seed)


def on_off(seed: int) -> Scenario:
    """Traffic that pauses for 35 minutes at a time; zero replicas are allowed after 5 idle minutes."""
    of = spec(
        "office", LLAMA_8B, Slo(ttft_s=2.0, itl_s=0.060, attainment=0.85), tiers(L40S, {"bf16": 1, "fp8": 1}),
        replicas_min=0, scale_to_zero=ScaleToZero(idle_s=300.0),
    )  # fmt: skip
    rates = make.on_off(rps=12, duration_s=3 * HOUR, on_s=1500, off_s=2100)
    return single(of, Flow(rates=rates, lengths=make.CHAT), name="on-off", initial={"fp8": 3}, seed=seed)


def prefill_heavy(seed: int) -> Scenario:
    """Long documents, short answers: weight-only tiers lose, fp8 wins and takes half the GPUs."""
    of = spec("docs", LLAMA_70B, Slo(ttft_s=4.0, itl_s=0.150), tiers(H100, {"bf16": 4, "fp8": 2, "int4": 2}))
    return single(
        of, Flow(rates=day(3.5, 2), lengths=make.DOCUMENTS), name="prefill-heavy", initial={"bf16": 1}, seed=seed
    )


def decode_heavy(seed: int) -> Scenario:
    """Short questions, long reasoning, on GPUs without fp8."""
    of = spec("reason", LLAMA_8B, Slo(ttft_s=1.0, itl_s=0.030), tiers(A100, {"bf16": 1, "int4": 1}))
    return single(
        of, Flow(rates=day(6, 2), lengths=make.REASONING), name="decode-heavy", initial={"bf16": 2}, seed=seed
    )


def tight_itl(seed: int) -> Scenario:
    """An inter-token target that full precision cannot meet at all, at low load."""
    slo = Slo(ttft_s=3.0, itl_s=0.025, attainment=0.95)
    of = spec("assist", LLAMA_70B, slo, tiers(A100, {"bf16": 4, "int4": 4}), quality=Quality(minimum=0.9))
    rates = make.steady(rps=1.5, duration_s=2 * HOUR)
    return single(
        of, Flow(rates=rates, lengths=Lengths(prompt=400, output=200)), name="tight-itl", initial={"int4": 1}, seed=seed
    )


def budget_bound(seed: int) -> Scenario:
    """The peak costs more than the budget in full precision; with fp8 it almost fits."""
    of = spec(
        "chat", LLAMA_70B, Slo(ttft_s=3.0, itl_s=0.060, attainment=0.90),
        tiers(H100, {"bf16": 4, "fp8": 2, "int4": 2}), cost=Cost(budget_usd_per_hour=24.0),
        quality=Quality(minimum=0.9, average_minimum=0.99),
    )  # fmt: skip
    return single(of, Flow(rates=day(12, 2), lengths=make.CHAT), name="budget-bound", initial={"fp8": 2}, seed=seed)


def quality_bound(seed: int) -> Scenario:
    """int4 is a fifth cheaper, but the mean quality must stay at 0.985: the best fleet is a mix."""
    of = spec(
        "chat", LLAMA_8B, Slo(ttft_s=1.0, itl_s=0.020, attainment=0.95), tiers(A100, {"bf16": 1, "int4": 1}),
        quality=Quality(minimum=0.9, average_minimum=0.985),
    )  # fmt: skip
    return single(of, Flow(rates=day(24, 2), lengths=QUESTIONS), name="quality-bound", initial={"bf16": 3}, seed=seed)


def shared_pool(seed: int) -> Scenario:
    """Two deployments peak together on 8 GPUs, which are too few for both; the higher priority comes first."""
    options = tiers(H100, {"bf16": 2, "fp8": 1})
    paid = spec("paid", QWEN_32B, Slo(ttft_s=2.0, itl_s=0.060, attainment=0.97), options, priority=100)
    free = spec("free", QWEN_32B, Slo(ttft_s=4.0, itl_s=0.080, attainment=0.80), options, priority=10)
    first = make.generate(day(14, 2), make.CHAT, seed=seed, name="paid")
    second = make.generate(day(20, 2), make.CHAT, seed=seed + 1, name="free")
    both = (service(paid, first, {"fp8": 2}), service(free, second, {"fp8": 2}))
    return scenario("shared-pool", both, hours=2, seed=seed, capacity=8)


def outage(seed: int) -> Scenario:
    """Prometheus is down for ten minutes at the peak."""
    fault = Fault(trouble=Trouble.NO_METRICS, start_s=0.95 * HOUR, end_s=0.95 * HOUR + 600)
    of = spec("chat", LLAMA_8B, SMALL_SLO, tiers(L40S, {"bf16": 1, "fp8": 1, "int4": 1}))
    return single(
        of,
        Flow(rates=day(16, 2), lengths=make.CHAT),
        name="metrics-outage",
        initial={"fp8": 2},
        seed=seed,
        extra=Extra(faults=(fault,)),
    )


def stuck(seed: int) -> Scenario:
    """Pods of the cheapest tier do not start for forty minutes while load ramps up."""
    of = spec("chat", LLAMA_8B, SMALL_SLO, tiers(L40S, {"bf16": 1, "fp8": 1}))
    rates = make.ramp(levels=(6, 6, 22, 22, 14), duration_s=2 * HOUR)
    fault = Fault(trouble=Trouble.STUCK_TIER, start_s=900, end_s=900 + 2400, target="chat/fp8")
    return single(
        of,
        Flow(rates=rates, lengths=make.CHAT),
        name="stuck-tier",
        initial={"fp8": 2},
        seed=seed,
        extra=Extra(faults=(fault,)),
    )


def slow_start(seed: int) -> Scenario:
    """Replicas take ten minutes to start: weights are loaded over a slow link."""
    of = spec("chat", LLAMA_8B, SMALL_SLO, tiers(L40S, {"bf16": 1, "fp8": 1}))
    twists = {"*": Twist(startup=Startup(median_s=600.0, spread=0.2))}
    return single(
        of,
        Flow(rates=day(14, 3), lengths=make.CHAT),
        name="slow-start",
        initial={"fp8": 2},
        seed=seed,
        extra=Extra(twists=twists),
    )


def wrong_prior(seed: int) -> Scenario:
    """Every step takes 1.4 times what the priors say: sizing by the priors fails."""
    of = spec("chat", LLAMA_8B, SMALL_SLO, tiers(L40S, {"bf16": 1, "fp8": 1, "int4": 1}))
    twists = {"*": Twist(decode=1.4, prefill=1.4)}
    return single(
        of,
        Flow(rates=day(11, 2), lengths=make.CHAT),
        name="wrong-prior",
        initial={"fp8": 3},
        seed=seed,
        extra=Extra(twists=twists),
    )


def spot(seed: int) -> Scenario:
    """A third of the GPUs is reclaimed at the peak with 30 s notice, and returns half an hour later."""
    of = spec("chat", QWEN_32B, Slo(ttft_s=3.0, itl_s=0.060, attainment=0.95), tiers(H100, {"bf16": 2, "fp8": 1}))
    fault = Fault(trouble=Trouble.SPOT_RECLAIM, start_s=HOUR, end_s=1.5 * HOUR, target=H100, amount=3)
    return single(
        of,
        Flow(rates=day(16, 2), lengths=make.CHAT),
        name="spot-reclaim",
        initial={"fp8": 3},
        seed=seed,
        extra=Extra(capacity=9, faults=(fault,)),
    )


SUITE: dict[str, Seeded] = {
    "steady": steady,
    "diurnal": diurnal,
    "burst-x4": burst,
    "ramp": ramp,
    "on-off": on_off,
    "prefill-heavy": prefill_heavy,
    "decode-heavy": decode_heavy,
    "tight-itl": tight_itl,
    "budget-bound": budget_bound,
    "quality-bound": quality_bound,
    "shared-pool": shared_pool,
    "metrics-outage": outage,
    "stuck-tier": stuck,
    "slow-start": slow_start,
    "wrong-prior": wrong_prior,
    "spot-reclaim": spot,
}


# The day of history is composed of this many other runs of the same scenario.
OTHER_RUNS = 4
HISTORY_S, HISTORY_STEP_S = 24 * HOUR, 60.0


def named(name: str, *, seed: int = 1) -> Scenario:
    """
    A scenario of the suite, with a day of history.

    Raises:
        SpecError: There is no scenario of that name.
    """
    if name not in SUITE:
        raise SpecError(field="--scenario", value=name, allowed=f"must be one of {', '.join(SUITE)}")
    scenario = SUITE[name](seed)
    others = [SUITE[name](1000 * seed + run) for run in range(1, OTHER_RUNS + 1)]
    services = [
        replace(service, history=history([other.services[i].traffic for other in others], scenario.duration_s, seed))
        for i, service in enumerate(scenario.services)
    ]
    return replace(scenario, services=tuple(services))


def history(runs: Sequence[Trace], duration_s: float, seed: int) -> tuple[tuple[float, float], ...]:
    """
    Demand of the day before the run, as Prometheus has it: traffic of the same kind, but other requests.

    Each run is rotated to a random start, so the history shows how much the load varies, but not when.

    Returns:
        (second, requests/s), one pair per minute; seconds relative to the start of the run, < 0, ascending.
    """
    rng = np.random.default_rng(seed)
    edges = np.arange(0.0, duration_s + HISTORY_STEP_S, HISTORY_STEP_S)
    counts = [np.histogram(run.arrival_s, edges)[0] for run in runs]
    passes = ceil(HISTORY_S / duration_s)
    day = np.concatenate([np.roll(counts[i % len(counts)], rng.integers(len(edges))) for i in range(passes)])
    day = day[-int(HISTORY_S / HISTORY_STEP_S) :]
    # Rates over two minutes, as the operator reads them back.
    rates = (day[1:] + day[:-1]) / (2 * HISTORY_STEP_S)
    seconds = -HISTORY_STEP_S * np.arange(1, len(rates) + 1)[::-1]
    return tuple(zip(seconds.tolist(), rates.tolist(), strict=True))
