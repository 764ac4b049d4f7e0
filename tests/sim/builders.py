"""Small worlds for the tests: one model, one accelerator, traffic by hand."""

from collections.abc import Mapping, Sequence

import numpy as np

from tidegate.domain.key import Key
from tidegate.domain.law import PerformanceLaw
from tidegate.domain.spec import Accelerator, DeploymentSpec, Slo, TierSpec
from tidegate.sim.engine.fleet import Fleet, Server
from tidegate.sim.scenario import Fault, Pool, Scenario, Service, Startup, TierTruth
from tidegate.sim.traces import Trace

LAW = PerformanceLaw(a_s=0.010, b_s=0.0001, c_s=1e-7, p0_s=0.005, p1_s=2e-5, kv_cache_tokens=160_000, running_max=64)
KEY = Key("test", "chat")


def server(**changes: float) -> Server:
    """A server with round numbers; changes go to its law."""
    values = {name: getattr(LAW, name) for name in LAW.__slots__} | changes
    return Server(law=PerformanceLaw(**values), token_budget=2048, overhead_s=0.0)


def traffic(arrival: Sequence[float], prompt: int | Sequence[int] = 100, output: int | Sequence[int] = 10) -> Trace:
    """Requests at given times."""
    count = len(arrival)
    return Trace(
        arrival_s=np.array(arrival, dtype=float),
        prompt_tokens=np.broadcast_to(np.array(prompt), count).astype(np.int64),
        output_tokens=np.broadcast_to(np.array(output), count).astype(np.int64),
    )


def poisson(rps: float, duration_s: float, *, seed: int = 1, prompt: int = 500, output: int = 100) -> Trace:
    """Poisson arrivals of lognormal requests."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rps, int(rps * duration_s * 1.5) + 20))
    arrival = arrival[arrival < duration_s]
    return traffic(
        arrival.tolist(),
        np.maximum(1, rng.lognormal(np.log(prompt), 0.6, len(arrival))).astype(int).tolist(),
        np.maximum(1, rng.lognormal(np.log(output), 0.6, len(arrival))).astype(int).tolist(),
    )


def fleet(trace: Trace, *, replicas: int = 1, of: Server | None = None, random_router: bool = False) -> Fleet:
    """A fleet of equal replicas, all ready at second 0."""
    made = Fleet(
        [trace], [of or server()], ttft_edges=[0.1, 0.5, 1.0], gap_edges=[0.01, 0.02, 0.05],
        slots=max(8, replicas), random_router=random_router, seed=3,
    )  # fmt: skip
    for _ in range(replicas):
        made.open(deployment=0, tier=0)
    return made


def tier(name: str = "bf16", *, accelerator: str = "gpu", width: int = 1, quality: float = 1.0) -> TierSpec:
    """A tier without bounds of its own."""
    return TierSpec(
        name=name, quality=quality, accelerator=accelerator, accelerators_per_replica=width,
        replicas_min=0, replicas_max=16,
    )  # fmt: skip


def scenario(
    trace: Trace,
    *,
    initial: Mapping[str, int] | None = None,
    faults: tuple[Fault, ...] = (),
    duration_s: float = 600.0,
    capacity: int | None = 16,
    warm: int | None = None,
    tiers: tuple[TierSpec, ...] = (),
    startup: Startup | None = None,
) -> Scenario:
    """One deployment on one kind of accelerator at 2 $/h."""
    tiers = tiers or (tier(),)
    spec = DeploymentSpec(
        key=KEY, model="a-model", slo=Slo(ttft_s=1.0, itl_s=0.05), tiers=tiers, replicas_min=1, replicas_max=16
    )
    truth = TierTruth(server=server(), startup=startup or Startup(median_s=60.0, spread=0.0))
    service = Service(
        spec=spec, traffic=trace, truths={t.name: truth for t in tiers}, initial=initial or {tiers[0].name: 1}
    )
    pool = Pool(accelerator=Accelerator(name="gpu", price_usd_per_hour=2.0, capacity=capacity), warm=warm)
    return Scenario(name="test", services=(service,), pools={"gpu": pool}, duration_s=duration_s, faults=faults, seed=5)
