"""
Random short scenarios with faults, and the promises that hold in all of them.

In:    a seed.
Out:   the promises the core broke, as sentences; empty where it kept them all.

    budget       the decided fleet never costs more per hour than the budget
    bounds       totals and tiers stay inside their bounds (zero only where zero is allowed)
    capacity     no more accelerators are asked for than there are, over all deployments together
    quality      no tier below the minimum
    silence      without metrics nothing shrinks, unless one of the above forces it
    settling     minutes after the last fault, under steady load, the fleet stops going up and down
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
SETTLED_S = 450.0  # the last minutes, in which nothing may swing
QUALITIES = {"bf16": 1.0, "fp8": 0.99, "int4": 0.95}
MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B")
PRICES = {"nvidia-h100": 3.0, "nvidia-l40s": 1.2}
LENGTHS = (Lengths(prompt=800, output=150), Lengths(prompt=200, output=400), Lengths(prompt=3000, output=80))
# Slack for float sums of money, $/h.
DUST = 1e-6


def scenario(seed: int) -> Scenario:
    """A random scenario: one or two deployments, one to three tiers, up to four faults, steady load at the end."""
    dice = np.random.default_rng(seed)
    services = tuple(_service(dice, index, seed) for index in range(int(dice.integers(1, 3))))
    names = sorted({t.accelerator for s in services for t in s.spec.tiers})
    needed = {n: sum(_floor(s.spec) for s in services if any(t.accelerator == n for t in s.spec.tiers)) for n in names}
    faults = tuple(_faults(dice, services, names))
    # Even at the worst moment the smallest allowed fleets fit.
    losses = sum(int(f.amount) for f in faults if f.trouble in (Trouble.LOST_NODES, Trouble.SPOT_RECLAIM))
    pools = {
        n: Pool(
            accelerator=Accelerator(
                name=n, price_usd_per_hour=PRICES[n], capacity=int(needed[n] + losses + dice.integers(0, 12))
            ),
            warm=None if dice.random() < 0.7 else needed[n],
            provision_s=float(dice.uniform(60, 240)),
        )
        for n in names
    }
    return Scenario(
        name=f"seed {seed}", services=services, pools=pools, duration_s=DURATION_S, seed=seed,
        faults=faults, random_router=bool(dice.random() < 0.2),
    )  # fmt: skip


def _floor(spec: DeploymentSpec) -> int:
    """Accelerators that the smallest allowed fleet takes."""
    return max(1, spec.replicas_min) * max(t.accelerators_per_replica for t in spec.tiers)


def _service(dice: np.random.Generator, index: int, seed: int) -> Service:
    model = str(dice.choice(MODELS))
    accelerator = str(dice.choice(list(PRICES)))
    picked = [n for n in QUALITIES if dice.random() < 0.7] or ["bf16"]
    width = 1 if model == MODELS[0] else 2
    tiers = tuple(
        TierSpec(
            name=n, quality=QUALITIES[n], accelerator=accelerator, accelerators_per_replica=width,
            replicas_min=0, replicas_max=int(dice.integers(2, 12)),
        )
        for n in picked
    )  # fmt: skip
    least = int(dice.integers(1, 3))
    floor_usd = least * width * PRICES[accelerator]
    best = max(QUALITIES[n] for n in picked)
    spec = DeploymentSpec(
        key=Key("chaos", f"d{index}"),
        model=model,
        slo=Slo(ttft_s=float(dice.uniform(0.5, 4)), itl_s=float(dice.uniform(0.02, 0.1)), attainment=0.95),
        tiers=tiers,
        replicas_min=least,
        replicas_max=least + int(dice.integers(2, 12)),
        priority=int(dice.integers(0, 100)),
        # A price may double: the smallest fleet has to fit into the budget even then.
        cost=Cost(budget_usd_per_hour=floor_usd * float(dice.uniform(2.5, 8)) if dice.random() < 0.5 else None),
        quality=Quality(minimum=min(best, float(dice.choice([0.0, 0.97]))), average_minimum=0.0),
        scale_down_window_s=float(dice.choice([60.0, 300.0])),
    )
    usable = [n for n in picked if QUALITIES[n] >= spec.quality.minimum]
    return Service(
        spec=spec,
        traffic=_traffic(dice, seed * 2 + index),
        truths=_truths(dice, spec),
        initial={usable[0]: least},
        gateway=bool(dice.random() < 0.7),
    )


def _truths(dice: np.random.Generator, spec: DeploymentSpec) -> dict[str, TierTruth]:
    startup = Startup(median_s=float(dice.uniform(30, 180)), spread=float(dice.uniform(0, 0.3)))
    twist = Twist(decode=float(dice.uniform(0.7, 1.5)), prefill=float(dice.uniform(0.7, 1.5)), startup=startup)
    accelerators = {n: Accelerator(name=n, price_usd_per_hour=p) for n, p in PRICES.items()}
    return truths_of(spec, accelerators, {"*": twist})


def _traffic(dice: np.random.Generator, seed: int) -> Trace:
    """Load that jumps about while faults last, then stays."""
    base = float(dice.uniform(0.3, 5))
    early = np.repeat(dice.uniform(0.2, 3.0, 5) * base, int(FAULTS_END_S // 5))
    rates = np.concatenate([early, np.full(int(DURATION_S - FAULTS_END_S), base)])
    lengths = LENGTHS[int(dice.integers(len(LENGTHS)))]
    return generate(rates, lengths, variation=float(dice.uniform(0.8, 1.8)), seed=seed, name="chaos")


def _faults(dice: np.random.Generator, services: tuple[Service, ...], accelerators: list[str]) -> Iterator[Fault]:
    for _ in range(int(dice.integers(1, 5))):
        trouble = Trouble(str(dice.choice([t.value for t in Trouble])))
        start = float(dice.uniform(60, FAULTS_END_S - 120))
        end = min(FAULTS_END_S, start + float(dice.uniform(60, 600)))
        service = services[int(dice.integers(len(services)))]
        target, amount = str(dice.choice(accelerators)), 2.0
        if trouble is Trouble.NO_METRICS:
            target = str(dice.choice(["", service.spec.key.name]))
        elif trouble in (Trouble.STUCK_TIER, Trouble.SLOW_START):
            target, amount = f"{service.spec.key.name}/{service.spec.tiers[0].name}", 3.0
        elif trouble is Trouble.PRICE_CHANGE:
            amount = PRICES[target] * float(dice.uniform(0.5, 2.0))
        yield Fault(trouble=trouble, start_s=start, end_s=end, target=target, amount=amount)


@dataclass(slots=True)
class Watched:
    """Tidegate with somebody who checks each of its decisions."""

    inner: Tidegate = field(default_factory=Tidegate)
    broken: list[str] = field(default_factory=list)
    history: list[tuple[float, dict[tuple[Key, str], int]]] = field(default_factory=list)
    name: str = "watched"

    def decide(self, view: View) -> Choice:
        """Pass on what the core decides, having looked at it."""
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
    """What a wish for the whole fleet breaks, as sentences."""
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
    """Price of a fleet now."""
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
    """Sentences where a deployment that says nothing shrinks although nothing forces it to."""
    seen = view.observation.deployments[spec.key]
    missing = [s.reading.reason for s in seen.tiers.values() if isinstance(s.reading, Missing)]
    # A tier without replicas has nothing to say; that alone is no silence.
    silent = seen.gateway is None and len(missing) == len(seen.tiers) and set(missing) != {"NoReplicas"}
    before = {t.name: view.wanted[spec.key, t.name] for t in spec.tiers}
    if silent and sum(mine.values()) < sum(before.values()) and not _forced(view, spec, before):
        yield f"{spec.key}: silence: shrank from {before} to {mine}"


def _forced(view: View, spec: DeploymentSpec, before: dict[str, int]) -> bool:
    """Whether what was wanted before is no longer allowed: too dear, or more than there is."""
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
    Tiers that turn about more than once within the last minutes of a run.

    Turning about once is no swing, in however many steps: a queue of the faults is served, or a replica is learned to
    carry more, so the fleet grows and then gets smaller step by step.
    """
    late = [wish for time_s, wish in history if time_s > DURATION_S - SETTLED_S]
    for tier in late[0]:
        changes = np.diff([wish[tier] for wish in late])
        directions = np.sign(changes[changes != 0])
        if int((np.diff(directions) != 0).sum()) > 1:
            yield f"{tier[0]}/{tier[1]} does not settle: {[wish[tier] for wish in late]}"


def trial(seed: int) -> list[str]:
    """Every promise broken in the scenario of that seed."""
    policy = Watched()
    run(scenario(seed), policy)
    return [*policy.broken, *swings(policy.history)]
