"""
CPU time of `plan.choose` per deployment: at rest, and when every tick searches a new plan.

    PYTHONPATH=operator python -m benchmarks.choose_speed [DEPLOYMENTS]

Three tiers per deployment. At rest, demand alternates by one percent; otherwise it grows by 30 % per tick.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from time import process_time

from tests.plan.fleets import POOLS, estimate, forecast, reading, spec, tier
from tidegate.domain.key import Key
from tidegate.domain.observation import TierState
from tidegate.plan import PlanMemory, Problem, choose

TICK_S = 15.0
ESTIMATES = {"bf16": estimate(6), "fp8": estimate(9), "int4": estimate(5)}
SPEC = spec(tier("bf16"), tier("fp8", quality=0.995), tier("int4", quality=0.95))


def timed(count: int, rate: Callable[[int], float], ticks: int = 40) -> list[float]:
    """CPU time of each tick, microseconds per deployment. Decided replicas are ready at the next tick."""
    specs = [replace(SPEC, key=Key("bench", str(i))) for i in range(count)]
    memory: dict[Key, PlanMemory] = {}
    ready = {s.key: {"bf16": 0, "fp8": 4, "int4": 0} for s in specs}
    times = []
    for tick in range(ticks):
        load = forecast(rate(tick), spread=0.2)
        problems = [
            Problem(
                spec=s,
                states={
                    n: TierState(ready=c, reading=reading(8.0)) if c else TierState() for n, c in ready[s.key].items()
                },
                estimates=ESTIMATES,
                forecast=load,
                memory=memory.get(s.key),
            )
            for s in specs
        ]
        begun = process_time()
        outcome = choose(problems, accelerators=POOLS, time_s=1e9 + tick * TICK_S)
        times.append((process_time() - begun) / count * 1e6)
        memory = {key: m for key, (m, _) in outcome.items()}
        ready = {key: {n: t.replicas for n, t in d.tiers.items()} for key, (_, d) in outcome.items()}
    return times


def main() -> None:
    """Print both figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rest = sorted(timed(count, lambda tick: 30 * (1 + 0.01 * (-1) ** tick))[25:])
    print(f"at rest:   {rest[len(rest) // 2]:7.0f} us per deployment and tick")
    moved = sorted(timed(max(1, count // 10), lambda tick: 20 * 1.3**tick, ticks=8)[1:])
    print(f"searched:  {moved[len(moved) // 2]:7.0f} us per deployment and tick")


if __name__ == "__main__":
    main()
