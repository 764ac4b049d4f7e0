"""
The fixed scenarios that every version of the product is measured with.

Each is one to three simulated hours, sized so that a handful of replicas is needed: large fleets forgive whole
numbers. Prices are the defaults a user would find on the market; truths are the shipped priors unless the scenario is
about learning that they are wrong.
"""

from collections.abc import Callable, Mapping

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
# Quality by tier name: what published evaluations leave of the full-precision score.
QUALITY = {"bf16": 1.0, "fp8": 0.995, "int4": 0.96}
LLAMA_8B, QWEN_32B, LLAMA_70B = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B", "meta-llama/Llama-3.1-70B"

Seeded = Callable[[int], Scenario]


def accelerator(name: str, capacity: int | None = 64) -> Accelerator:
    """A class at its default price."""
    return Accelerator(name=name, price_usd_per_hour=PRICES[name], capacity=capacity)


def tiers(accelerator_name: str, widths: Mapping[str, int], *, most: int = 24) -> tuple[TierSpec, ...]:
    """One tier per precision on one kind of accelerator; widths say how many accelerators a replica takes."""
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
    """A deployment with the suite's bounds."""
    bounds = {"replicas_min": 1, "replicas_max": 24} | more
    return DeploymentSpec(key=Key("suite", name), model=model, slo=slo, tiers=options, **bounds)  # type: ignore[arg-type]


def service(
    of: DeploymentSpec, traffic: Trace, initial: Mapping[str, int], *, twists: dict[str, Twist] | None = None
) -> Service:
    """A deployment with truths of the shipped priors, twisted where the scenario says so."""
    accelerators = {t.accelerator: accelerator(t.accelerator) for t in of.tiers}
    return Service(spec=of, traffic=traffic, truths=truths_of(of, accelerators, twists), initial=initial)


def scenario(
    name: str, services: tuple[Service, ...], *, hours: float, seed: int, capacity: int | None = 64,
    faults: tuple[Fault, ...] = (), notes: str = "",
) -> Scenario:  # fmt: skip
    """A run on pools of the suite's prices."""
    names = sorted({t.accelerator for s in services for t in s.spec.tiers})
    pools = {n: Pool(accelerator=accelerator(n, capacity)) for n in names}
    return Scenario(
        name=name, services=services, pools=pools, duration_s=hours * HOUR, faults=faults, seed=seed, notes=notes
    )


CHAT_SLO = Slo(ttft_s=1.0, itl_s=0.040, attainment=0.99)


def steady(seed: int) -> Scenario:
    """Steady load: the fleet should stop moving, and be no larger than needed."""
    one = spec("chat", LLAMA_8B, CHAT_SLO, tiers("nvidia-h100", {"bf16": 1, "fp8": 1, "int4": 1}))
    traffic = make.generate(make.steady(rps=45, duration_s=HOUR), make.CHAT, seed=seed, name="steady")
    return scenario("steady", (service(one, traffic, {"bf16": 3}),), hours=1, seed=seed)


def diurnal(seed: int) -> Scenario:
    """A day squeezed into three hours on small GPUs."""
    one = spec("chat", LLAMA_8B, Slo(ttft_s=1.5, itl_s=0.060), tiers("nvidia-l40s", {"bf16": 1, "fp8": 1, "int4": 1}))
    rates = make.diurnal(rps=9, duration_s=3 * HOUR, period_s=3 * HOUR)
    traffic = make.generate(rates, make.CHAT, seed=seed, name="diurnal")
    return scenario("diurnal", (service(one, traffic, {"bf16": 3}),), hours=3, seed=seed)


def burst(seed: int) -> Scenario:
    """Load jumps to four times its floor within seconds, for minutes, at random."""
    one = spec(
        "chat", QWEN_32B, Slo(ttft_s=3.0, itl_s=0.060, attainment=0.95), tiers("nvidia-h100", {"bf16": 2, "fp8": 1})
    )
    rates = make.bursty(rps=4, duration_s=2 * HOUR, seed=seed)
    traffic = make.generate(rates, make.CHAT, seed=seed, name="burst")
    return scenario("burst-x4", (service(one, traffic, {"bf16": 2}),), hours=2, seed=seed)


def ramp(seed: int) -> Scenario:
    """2 to 10 and back to 1 requests/s of 4,000-token prompts: the shape llm-d publishes for its SLO-aware rule."""
    lengths = Lengths(prompt=4000, output=250, prompt_variation=0.05, output_variation=0.2)
    one = spec(
        "chat", QWEN_32B, Slo(ttft_s=3.0, itl_s=0.100, attainment=0.95), tiers("nvidia-h100", {"bf16": 2, "fp8": 2})
    )
    rates = make.ramp(levels=(2, 2, 6, 10, 10, 6, 2, 1, 1), duration_s=HOUR)
    traffic = make.generate(rates, lengths, variation=1.0, seed=seed, name="ramp")
    return scenario("ramp", (service(one, traffic, {"bf16": 3}),), hours=1, seed=seed)


def on_off(seed: int) -> Scenario:
    """Traffic that stops for half an hour at a time; zero replicas are allowed after 5 idle minutes."""
    one = spec(
        "office", LLAMA_8B, Slo(ttft_s=2.0, itl_s=0.040, attainment=0.90), tiers("nvidia-h100", {"bf16": 1, "fp8": 1}),
        replicas_min=0, scale_to_zero=ScaleToZero(idle_s=300.0),
    )  # fmt: skip
    rates = make.on_off(rps=12, duration_s=3 * HOUR, on_s=1500, off_s=2100)
    traffic = make.generate(rates, make.CHAT, seed=seed, name="on-off")
    return scenario("on-off", (service(one, traffic, {"bf16": 1}),), hours=3, seed=seed)


def prefill_heavy(seed: int) -> Scenario:
    """Long documents, short answers: weight-only tiers lose, fp8 wins and takes half the GPUs."""
    one = spec("docs", LLAMA_70B, Slo(ttft_s=4.0, itl_s=0.150), tiers("nvidia-h100", {"bf16": 4, "fp8": 2, "int4": 2}))
    traffic = make.generate(
        make.diurnal(rps=2.0, duration_s=2 * HOUR, period_s=2 * HOUR), make.DOCUMENTS, seed=seed, name="docs"
    )
    return scenario("prefill-heavy", (service(one, traffic, {"bf16": 2}),), hours=2, seed=seed)


def decode_heavy(seed: int) -> Scenario:
    """Short questions, long reasoning, on GPUs without fp8."""
    one = spec("reason", LLAMA_8B, Slo(ttft_s=1.0, itl_s=0.030), tiers("nvidia-a100", {"bf16": 1, "int4": 1}))
    traffic = make.generate(
        make.diurnal(rps=4.0, duration_s=2 * HOUR, period_s=2 * HOUR), make.REASONING, seed=seed, name="reason"
    )
    return scenario("decode-heavy", (service(one, traffic, {"bf16": 4}),), hours=2, seed=seed)


def tight_itl(seed: int) -> Scenario:
    """An inter-token target that full precision cannot meet at all, at low load."""
    slo = Slo(ttft_s=3.0, itl_s=0.025, attainment=0.95)
    one = spec("assist", LLAMA_70B, slo, tiers("nvidia-a100", {"bf16": 4, "int4": 4}), quality=Quality(minimum=0.9))
    lengths = Lengths(prompt=400, output=200)
    traffic = make.generate(make.steady(rps=0.8, duration_s=2 * HOUR), lengths, variation=1.0, seed=seed, name="assist")
    return scenario("tight-itl", (service(one, traffic, {"bf16": 1}),), hours=2, seed=seed)


def budget_bound(seed: int) -> Scenario:
    """The peak costs more than the budget in full precision; a cheaper tier fits."""
    one = spec(
        "chat", LLAMA_70B, Slo(ttft_s=3.0, itl_s=0.060, attainment=0.95),
        tiers("nvidia-h100", {"bf16": 4, "fp8": 2, "int4": 2}), cost=Cost(budget_usd_per_hour=30.0),
        quality=Quality(minimum=0.9, average_minimum=0.99),
    )  # fmt: skip
    traffic = make.generate(
        make.diurnal(rps=6, duration_s=2 * HOUR, period_s=2 * HOUR), make.CHAT, seed=seed, name="budget"
    )
    return scenario("budget-bound", (service(one, traffic, {"bf16": 1}),), hours=2, seed=seed)


def quality_bound(seed: int) -> Scenario:
    """int4 takes a quarter of the GPUs, but the mean quality must stay at 0.985: the best fleet is a mix."""
    one = spec(
        "chat", LLAMA_70B, Slo(ttft_s=4.0, itl_s=0.060, attainment=0.95),
        tiers("nvidia-h100", {"bf16": 4, "int4": 2}), quality=Quality(minimum=0.9, average_minimum=0.985),
    )  # fmt: skip
    traffic = make.generate(
        make.diurnal(rps=5, duration_s=2 * HOUR, period_s=2 * HOUR), make.CHAT, seed=seed, name="quality"
    )
    return scenario("quality-bound", (service(one, traffic, {"bf16": 2}),), hours=2, seed=seed)


def shared_pool(seed: int) -> Scenario:
    """Two deployments peak together on 8 GPUs that hold one and a half of them; the higher priority comes first."""
    options = tiers("nvidia-h100", {"bf16": 1, "fp8": 1})
    paid = spec("paid", LLAMA_8B, CHAT_SLO, options, priority=100)
    free = spec("free", LLAMA_8B, Slo(ttft_s=2.0, itl_s=0.060, attainment=0.90), options, priority=10)
    rates = make.diurnal(rps=40, duration_s=2 * HOUR, period_s=2 * HOUR)
    first = make.generate(rates, make.CHAT, seed=seed, name="paid")
    second = make.generate(rates * 1.6, make.CHAT, seed=seed + 1, name="free")
    both = (service(paid, first, {"bf16": 2}), service(free, second, {"bf16": 2}))
    return scenario("shared-pool", both, hours=2, seed=seed, capacity=8)


def outage(seed: int) -> Scenario:
    """Prometheus is gone for ten minutes while load climbs to its peak."""
    base = diurnal(seed)
    fault = Fault(trouble=Trouble.NO_METRICS, start_s=1.15 * HOUR, end_s=1.15 * HOUR + 600)
    return scenario("metrics-outage", base.services, hours=3, seed=seed, faults=(fault,))


def stuck(seed: int) -> Scenario:
    """Pods of the cheapest tier do not start for forty minutes while load ramps up."""
    one = spec("chat", LLAMA_8B, CHAT_SLO, tiers("nvidia-h100", {"bf16": 1, "fp8": 1}))
    rates = make.ramp(levels=(15, 15, 60, 60, 40), duration_s=2 * HOUR)
    traffic = make.generate(rates, make.CHAT, seed=seed, name="stuck")
    fault = Fault(trouble=Trouble.STUCK_TIER, start_s=900, end_s=900 + 2400, target="chat/fp8")
    return scenario("stuck-tier", (service(one, traffic, {"bf16": 1}),), hours=2, seed=seed, faults=(fault,))


def slow_start(seed: int) -> Scenario:
    """Replicas take ten minutes to start: weights come over a slow link."""
    one = spec("chat", LLAMA_8B, CHAT_SLO, tiers("nvidia-h100", {"bf16": 1, "fp8": 1}))
    rates = make.diurnal(rps=40, duration_s=3 * HOUR, period_s=3 * HOUR)
    traffic = make.generate(rates, make.CHAT, seed=seed, name="slow")
    twists = {"*": Twist(startup=Startup(median_s=600.0, spread=0.2))}
    return scenario("slow-start", (service(one, traffic, {"bf16": 2}, twists=twists),), hours=3, seed=seed)


def wrong_prior(seed: int) -> Scenario:
    """Every step takes 1.4 times what the priors say: sizing by the book fails."""
    one = spec("chat", LLAMA_8B, CHAT_SLO, tiers("nvidia-h100", {"bf16": 1, "fp8": 1, "int4": 1}))
    rates = make.diurnal(rps=36, duration_s=2 * HOUR, period_s=2 * HOUR)
    traffic = make.generate(rates, make.CHAT, seed=seed, name="wrong")
    twists = {"*": Twist(decode=1.4, prefill=1.4)}
    return scenario("wrong-prior", (service(one, traffic, {"bf16": 2}, twists=twists),), hours=2, seed=seed)


def spot(seed: int) -> Scenario:
    """A third of the GPUs is reclaimed at the peak with 30 s of notice, and comes back half an hour later."""
    one = spec(
        "chat", LLAMA_8B, Slo(ttft_s=1.0, itl_s=0.040, attainment=0.95), tiers("nvidia-h100", {"bf16": 1, "fp8": 1})
    )
    traffic = make.generate(
        make.diurnal(rps=45, duration_s=2 * HOUR, period_s=2 * HOUR), make.CHAT, seed=seed, name="spot"
    )
    fault = Fault(trouble=Trouble.SPOT_RECLAIM, start_s=HOUR, end_s=1.5 * HOUR, target="nvidia-h100", amount=3)
    return scenario(
        "spot-reclaim", (service(one, traffic, {"bf16": 2}),), hours=2, seed=seed, capacity=9, faults=(fault,)
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


def named(name: str, *, seed: int = 1) -> Scenario:
    """A scenario of the suite; SpecError where there is none of that name."""
    if name not in SUITE:
        raise SpecError(field="--scenario", value=name, allowed=f"one of {', '.join(SUITE)}")
    return SUITE[name](seed)
