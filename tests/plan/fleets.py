"""Small, regular deployments, curves and demand for the tests of `plan`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tidegate.domain.decision import Decision
from tidegate.domain.estimate import POOLS as POOL_SIZES
from tidegate.domain.estimate import OperatingPoint, ServiceCurve, TierEstimate
from tidegate.domain.forecast import DemandForecast, HorizonForecast
from tidegate.domain.key import Key
from tidegate.domain.law import PerformanceLaw, Provenance, Workload
from tidegate.domain.observation import GatewayReading, Missing, TierReading, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, Slo, TierSpec
from tidegate.plan import PlanMemory, Problem, choose

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
LAW = PerformanceLaw(a_s=0.006, b_s=1e-5, c_s=4e-8, p0_s=0.004, p1_s=2e-5, kv_cache_tokens=4e5, running_max=256)
KEY = Key("prod", "chat")


def curve(capacity: float, *, idle: float = 1.0, running: float = 32.0) -> ServiceCurve:
    """A replica that is good up to its capacity, then falls off within a third."""
    shape = ((0.02, 1.0), (0.5, 1.0), (0.8, 0.999), (1.0, 0.99), (1.1, 0.93), (1.2, 0.7), (1.35, 0.3))
    points = tuple(
        OperatingPoint(
            rate_rps=capacity * at,
            running=running * at**1.3,
            ttft_s_p95=0.2 + 0.3 * at,
            itl_s_p95=0.01 + 0.03 * at,
            attainment=idle * share,
        )
        for at, share in shape
    )
    return ServiceCurve(points=points)


ALONE = (1.0,) * len(POOL_SIZES)


def estimate(
    capacity: float,
    *,
    startup_s: float = 120.0,
    idle: float = 1.0,
    running: float = 32.0,
    pooling: tuple[float, ...] = ALONE,
) -> TierEstimate:
    return TierEstimate(
        law=LAW,
        provenance=Provenance.TABLE,
        confidence=0.8,
        workload=Workload(prompt_tokens=1000, output_tokens=250),
        curve=curve(capacity, idle=idle, running=running),
        capacity_rps=capacity if idle >= 0.99 else 0.0,
        startup_s=startup_s,
        startup_s_late=startup_s * 2.5,
        power_w=500.0,
        pooling=pooling,
    )


def forecast(rate: float, *, spread: float = 0.0, queued: float = 0.0, idle_s: float = 0.0) -> DemandForecast:
    """Demand around a rate; `spread` is the relative height of the 99th percentile above it."""
    offsets = (-0.7, -0.3, 0.0, 0.2, 0.5, 0.7, 1.0)
    rates = tuple(max(0.0, rate * (1 + spread * offset)) for offset in offsets)
    horizons = tuple(HorizonForecast(horizon_s=h, levels=LEVELS, rates_rps=rates) for h in (15.0, 135.0, 315.0))
    return DemandForecast(
        now_rps=rate,
        queued=queued,
        prompt_tokens=1000,
        output_tokens=250,
        burstiness=1.0,
        horizons=horizons,
        idle_s=idle_s,
    )


def tier(
    name: str, *, quality: float = 1.0, accelerator: str = "h100", gpus: int = 1, low: int = 0, high: int = 24
) -> TierSpec:
    return TierSpec(
        name=name,
        quality=quality,
        accelerator=accelerator,
        accelerators_per_replica=gpus,
        replicas_min=low,
        replicas_max=high,
    )


def spec(*tiers: TierSpec, **changes: object) -> DeploymentSpec:
    base = DeploymentSpec(
        key=KEY,
        model="m",
        slo=Slo(ttft_s=0.5, itl_s=0.04, attainment=0.99),
        tiers=tiers or (tier("bf16"),),
        replicas_min=1,
        replicas_max=24,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


POOLS = {
    "h100": Accelerator(name="h100", price_usd_per_hour=3.0),
    "l40s": Accelerator(name="l40s", price_usd_per_hour=1.2),
}


def reading(rate: float, *, age_s: float = 5.0, **more: object) -> TierReading:
    return TierReading(window_s=60.0, age_s=age_s, arrival_rps=rate, **more)  # type: ignore[arg-type]


@dataclass
class Loop:
    """A closed loop with an ideal cluster: what is asked for is ready `startup_ticks` later."""

    spec: DeploymentSpec
    estimates: Mapping[str, TierEstimate]
    pools: Mapping[str, Accelerator] = field(default_factory=lambda: dict(POOLS))
    startup_ticks: int = 0
    tick_s: float = 15.0
    time_s: float = 1_700_000_000.0
    memory: PlanMemory | None = None
    ready: dict[str, int] = field(default_factory=dict)
    starting: list[tuple[int, str]] = field(default_factory=list)  # (ticks left, tier)
    stuck: frozenset[str] = frozenset()
    placeable: dict[str, int] = field(default_factory=dict)
    history: list[Decision] = field(default_factory=list)

    def states(self, silent: Sequence[str] = (), rate: float = 1.0) -> dict[str, TierState]:
        found = {}
        for t in self.spec.tiers:
            ready = self.ready.get(t.name, 0)
            shown: TierReading | Missing = reading(rate) if ready else Missing(reason="NoReplicas")
            if t.name in silent and ready:
                shown = Missing(reason="Timeout", detail="prometheus did not answer")
            starting = sum(1 for _, name in self.starting if name == t.name)
            most = self.placeable.get(t.name)
            found[t.name] = TierState(ready=ready, starting=starting, placeable=most, reading=shown)
        return found

    def problem(
        self, demand: DemandForecast, *, silent: Sequence[str] = (), gateway: GatewayReading | None = None
    ) -> Problem:
        states = self.states(silent, demand.now_rps)
        return Problem(
            spec=self.spec,
            states=states,
            estimates=self.estimates,
            forecast=demand,
            gateway=gateway,
            memory=self.memory,
        )

    def tick(
        self, demand: DemandForecast, *, silent: Sequence[str] = (), gateway: GatewayReading | None = None
    ) -> Decision:
        problem = self.problem(demand, silent=silent, gateway=gateway)
        outcome = choose([problem], accelerators=self.pools, time_s=self.time_s)
        self.memory, decision = outcome[self.spec.key]
        assert decision.error is None, decision.error
        self.obey(decision)
        self.time_s += self.tick_s
        self.history.append(decision)
        return decision

    def run(self, demand: DemandForecast, ticks: int, *, silent: Sequence[str] = ()) -> Decision:
        for _ in range(ticks):
            decision = self.tick(demand, silent=silent)
        return decision

    def obey(self, decision: Decision) -> None:
        self.starting = [(left - (name not in self.stuck), name) for left, name in self.starting]
        for name, wanted in decision.tiers.items():
            have = self.ready.get(name, 0)
            waiting = [s for s in self.starting if s[1] == name]
            others = [s for s in self.starting if s[1] != name]
            surplus = have + len(waiting) - wanted.replicas
            while surplus > 0 and waiting:
                waiting.pop()
                surplus -= 1
            self.ready[name] = have - max(0, surplus)
            waiting += [(self.startup_ticks, name)] * max(0, -surplus)
            self.starting = others + waiting
        for left, name in list(self.starting):
            if left <= 0 and name not in self.stuck:
                self.starting.remove((left, name))
                self.ready[name] = self.ready.get(name, 0) + 1


def fleet(decision: Decision) -> dict[str, int]:
    return {name: t.replicas for name, t in decision.tiers.items() if t.replicas}


def tick(
    loops: Sequence[Loop], rates: Sequence[float], pools: Mapping[str, Accelerator], *, silent: tuple[str, ...] = ()
) -> list[Decision]:
    """One decision for all of them together, obeyed by those that act; `silent` tiers report nothing."""
    problems = [one.problem(forecast(rate), silent=silent) for one, rate in zip(loops, rates, strict=True)]
    outcome = choose(problems, accelerators=pools, time_s=loops[0].time_s)
    decisions = []
    for one in loops:
        one.memory, decision = outcome[one.spec.key]
        assert decision.error is None, decision.error
        if one.spec.acts:
            one.obey(decision)
        one.time_s += one.tick_s
        decisions.append(decision)
    return decisions


def total(decision: Decision) -> int:
    return sum(t.replicas for t in decision.tiers.values())
