"""
Short random scenarios with faults, and the invariants that must hold in all of them.

In:    a seed.
Out:   the violations, as sentences; empty if there are none.

    budget       the decided fleet never costs more per hour than the budget
    bounds       totals and tiers stay within their bounds
    capacity     all deployments together never request more accelerators than exist
    quality      no tier below the minimum quality
    silence      nothing shrinks while metrics are missing, unless one of the above forces it
    settling     minutes after the last fault, under steady load, no tier oscillates
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tidegate.domain.key import Key
from tidegate.domain.observation import Missing
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec, Quality, Slo, TierSpec
from tidegate.sim.generators import Lengths, generate
from tidegate.sim.policies.base import Choice, View
from tidegate.sim.policies.core import Tidegate
from tidegate.sim.runner import run
from tidegate.sim.scenario import Fault, Pool, Scenario, Service, Startup, TierTruth, Trouble
from tidegate.sim.traces import Trace
from tidegate.sim.truth import Twist, truths_of

DURATION_S = 1800.0
FAULTS_END_S = 700.0
SETTLED_S = 450.0  # the last part of the run, in which nothing may oscillate
QUALITIES = {"bf16": 1.0, "fp8": 0.99, "int4": 0.95}
MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B")
PRICES = {"nvidia-h100": 3.0, "nvidia-l40s": 1.2}
LENGTHS = (Lengths(prompt=800, output=150), Lengths(prompt=200, output=400), Lengths(prompt=3000, output=80))
# Tolerance for rounding errors in sums of money, $/h.
DUST = 1e-6


def scenario(seed: int) -> Scenario:
    """A random scenario: one or two deployments, one to three tiers, up to four faults, steady load at the end."""
    rng = np.random.default_rng(seed)
    services = tuple(_service(rng, index, seed) for index in range(int(rng.integers(1, 3))))
    names = sorted({t.accelerator for s in services for t in s.spec.tiers})
    needed = {n: sum(_floor(s.spec) for s in services if any(t.accelerator == n for t in s.spec.tiers)) for n in names}
    faults = tuple(_faults(rng, services, names))
    # The smallest allowed fleets fit even while all losses are active.
    losses = sum(int(f.amount) for f in faults if f.trouble in (Trouble.LOST_NODES, Trouble.SPOT_RECLAIM))
    pools = {
        n: Pool(
            accelerator=Accelerator(
                name=n, price_usd_per_hour=PRICES[n], capacity=int(needed[n] + losses + rng.integers(0, 12))
            ),
            warm=None if rng.random() < 0.7 else needed[n],
            provision_s=float(rng.uniform(60, 240)),
        )
        for n in names
    }
    return Scenario(
        name=f"seed {seed}", services=services, pools=pools, duration_s=DURATION_S, seed=seed,
        faults=faults, random_router=bool(rng.random() < 0.2),
    )  # fmt: skip


def _floor(spec: DeploymentSpec) -> int:
    """Accelerators that the smallest allowed fleet needs at most."""
    return max(1, spec.replicas_min) * max(t.accelerators_per_replica for t in spec.tiers)


def _service(rng: np.random.Generator, index: int, seed: int) -> Service:
    model = str(rng.choice(MODELS))
    accelerator = str(rng.choice(list(PRICES)))
    picked = [n for n in QUALITIES if rng.random() < 0.7] or ["bf16"]
    width = 1 if model == MODELS[0] else 2
    tiers = tuple(
        TierSpec(
            name=n, quality=QUALITIES[n], accelerator=accelerator, accelerators_per_replica=width,
            replicas_min=0, replicas_max=int(rng.integers(2, 12)),
        )
        for n in picked
    )  # fmt: skip
    least = int(rng.integers(1, 3))
    floor_usd = least * width * PRICES[accelerator]
    best = max(QUALITIES[n] for n in picked)
    spec = DeploymentSpec(
        key=Key("chaos", f"d{index}"),
        model=model,
        slo=Slo(ttft_s=float(rng.uniform(0.5, 4)), itl_s=float(rng.uniform(0.02, 0.1)), attainment=0.95),
        tiers=tiers,
        replicas_min=least,
        replicas_max=least + int(rng.integers(2, 12)),
        priority=int(rng.integers(0, 100)),
        # Prices may double, and the smallest fleet must fit the budget even then.
        cost=Cost(budget_usd_per_hour=floor_usd * float(rng.uniform(2.5, 8)) if rng.random() < 0.5 else None),
        quality=Quality(minimum=min(best, float(rng.choice([0.0, 0.97]))), average_minimum=0.0),
        scale_down_window_s=float(rng.choice([60.0, 300.0])),
    )
    usable = [n for n in picked if QUALITIES[n] >= spec.quality.minimum]
    return Service(
        spec=spec,
        traffic=_traffic(rng, seed * 2 + index),
        truths=_truths(rng, spec),
        initial={usable[0]: least},
        gateway=bool(rng.random() < 0.7),
    )


def _truths(rng: np.random.Generator, spec: DeploymentSpec) -> dict[str, TierTruth]:
    startup = Startup(median_s=float(rng.uniform(30, 180)), spread=float(rng.uniform(0, 0.3)))
    twist = Twist(decode=float(rng.uniform(0.7, 1.5)), prefill=float(rng.uniform(0.7, 1.5)), startup=startup)
    accelerators = {n: Accelerator(name=n, price_usd_per_hour=p) for n, p in PRICES.items()}
    return truths_of(spec, accelerators, {"*": twist})


def _traffic(rng: np.random.Generator, seed: int) -> Trace:
    """Load that jumps while faults occur, and is steady afterwards."""
    base = float(rng.uniform(0.3, 5))
    early = np.repeat(rng.uniform(0.2, 3.0, 5) * base, int(FAULTS_END_S // 5))
    rates = np.concatenate([early, np.full(int(DURATION_S - FAULTS_END_S), base)])
    lengths = LENGTHS[int(rng.integers(len(LENGTHS)))]
    return generate(rates, lengths, variation=float(rng.uniform(0.8, 1.8)), seed=seed, name="chaos")


def _faults(rng: np.random.Generator, services: tuple[Service, ...], accelerators: list[str]) -> Iterator[Fault]:
    for _ in range(int(rng.integers(1, 5))):
        trouble = Trouble(str(rng.choice([t.value for t in Trouble])))
        start = float(rng.uniform(60, FAULTS_END_S - 120))
        end = min(FAULTS_END_S, start + float(rng.uniform(60, 600)))
        service = services[int(rng.integers(len(services)))]
        target, amount = str(rng.choice(accelerators)), 2.0
        if trouble is Trouble.NO_METRICS:
            target = str(rng.choice(["", service.spec.key.name]))
        elif trouble in (Trouble.STUCK_TIER, Trouble.SLOW_START):
            target, amount = f"{service.spec.key.name}/{service.spec.tiers[0].name}", 3.0
        elif trouble is Trouble.PRICE_CHANGE:
            amount = PRICES[target] * float(rng.uniform(0.5, 2.0))
        yield Fault(trouble=trouble, start_s=start, end_s=end, target=target, amount=amount)


@dataclass(slots=True)
class Watched:
    """Tidegate's policy, with every decision checked."""

    inner: Tidegate = field(default_factory=Tidegate)
    broken: list[str] = field(default_factory=list)
    history: list[tuple[float, dict[tuple[Key, str], int]]] = field(default_factory=list)
    name: str = "watched"

    def decide(self, view: View) -> Choice:
        """Check the core's decision and pass it on."""
        choice = self.inner.decide(view)
        wish = dict(view.wanted) | dict(choice.replicas)
        for sentence in self._errors():
            self.broken.append(f"t={view.time_s:.0f}: {sentence}")
        for sentence in broken_promises(view, wish):
            self.broken.append(f"t={view.time_s:.0f}: {sentence}")
        self.history.append((view.time_s, wish))
        return choice

    def _errors(self) -> Iterator[str]:
        assert self.inner.last is not None
        for key, decision in self.inner.last.deployments.items():
            if decision.error is not None:
                yield f"{key}: the core failed: {decision.error}"


def broken_promises(view: View, wish: dict[tuple[Key, str], int]) -> Iterator[str]:
    """The invariants that the wanted replicas of the whole fleet violate, as sentences."""
    used: dict[str, int] = {}
    for key, spec in view.policy.deployments.items():
        mine = {t.name: wish[key, t.name] for t in spec.tiers}
        yield from _bounds(spec, mine)
        cost = usd_per_hour(view, spec, mine)
        budget = spec.cost.budget_usd_per_hour
        if budget is not None and cost > budget + DUST:
            yield f"{key}: budget {budget:.2f} $/h, decided {cost:.2f} ({mine})"
        for tier in spec.tiers:
            used[tier.accelerator] = used.get(tier.accelerator, 0) + mine[tier.name] * tier.accelerators_per_replica
        yield from _silence(view, spec, mine)
    for name, count in used.items():
        capacity = view.policy.accelerators[name].capacity
        if capacity is not None and count > capacity:
            yield f"capacity of {name} is {capacity}, decided {count}"


def usd_per_hour(view: View, spec: DeploymentSpec, replicas: dict[str, int]) -> float:
    """Current price of a fleet, $/h."""
    prices = {n: a.price_usd_per_hour for n, a in view.policy.accelerators.items()}
    return sum(replicas[t.name] * t.accelerators_per_replica * prices[t.accelerator] for t in spec.tiers)


def _bounds(spec: DeploymentSpec, mine: dict[str, int]) -> Iterator[str]:
    total = sum(mine.values())
    if not spec.replicas_min <= total <= spec.replicas_max:
        yield f"{spec.key}: bounds {spec.replicas_min} to {spec.replicas_max}, decided {total} ({mine})"
    for tier in spec.tiers:
        if not tier.replicas_min <= mine[tier.name] <= tier.replicas_max:
            yield f"{spec.key}: tier {tier.name} at most {tier.replicas_max}, decided {mine[tier.name]}"
        if mine[tier.name] > 0 and tier.quality < spec.quality.minimum:
            yield f"{spec.key}: tier {tier.name} is below the quality floor {spec.quality.minimum}"


def _silence(view: View, spec: DeploymentSpec, mine: dict[str, int]) -> Iterator[str]:
    """A sentence if a deployment without metrics shrinks although nothing forces it to."""
    seen = view.observation.deployments[spec.key]
    missing = [s.reading.reason for s in seen.tiers.values() if isinstance(s.reading, Missing)]
    # A tier without replicas has no metrics; that alone does not count as silence.
    silent = seen.gateway is None and len(missing) == len(seen.tiers) and set(missing) != {"NoReplicas"}
    before = {t.name: view.wanted[spec.key, t.name] for t in spec.tiers}
    if silent and sum(mine.values()) < sum(before.values()) and not _forced(view, spec, before):
        yield f"{spec.key}: silence: shrank from {before} to {mine}"


def _forced(view: View, spec: DeploymentSpec, before: dict[str, int]) -> bool:
    """Whether the previous fleet is not allowed any more: over the budget or over the capacity."""
    budget = spec.cost.budget_usd_per_hour
    if budget is not None and usd_per_hour(view, spec, before) > budget + DUST:
        return True
    for tier in spec.tiers:
        capacity = view.policy.accelerators[tier.accelerator].capacity
        used = sum(
            view.wanted[key, t.name] * t.accelerators_per_replica
            for key, other in view.policy.deployments.items()
            for t in other.tiers
            if t.accelerator == tier.accelerator
        )
        if capacity is not None and used > capacity:
            return True
    return False


def swings(history: list[tuple[float, dict[tuple[Key, str], int]]]) -> Iterator[str]:
    """
    Tiers that change direction more than once in the last minutes of a run.

    One change of direction is allowed, in any number of steps: the fleet may still grow to serve a queue that the
    faults left, or shrink step by step because it learns that a replica carries more.
    """
    late = [wish for time_s, wish in history if time_s > DURATION_S - SETTLED_S]
    for tier in late[0]:
        changes = np.diff([wish[tier] for wish in late])
        directions = np.sign(changes[changes != 0])
        if int((np.diff(directions) != 0).sum()) > 1:
            yield f"{tier[0]}/{tier[1]} does not settle: {[wish[tier] for wish in late]}"


def trial(seed: int) -> list[str]:
    """All violations in the scenario of that seed."""
    policy = Watched()
    run(scenario(seed), policy)
    return [*policy.broken, *swings(policy.history)]
