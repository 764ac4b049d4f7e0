"""
Cost of sharing out scarce accelerators, through the plan protocol.

    python benchmarks/pool_speed.py [--deployments 50] [--rounds 8]

Deployments of three priorities with three tiers each, two on one accelerator class and one on another. The classes have
room for 70 % and 14 % of the replicas that all deployments want. The load drifts by 2 % per tick, so that accelerators
are shared out again in nearly every tick. Decided replicas are ready at the next tick. Times are CPU time on one core.
"""

import argparse
import gc
import json
import random
from statistics import mean
from time import process_time

from plan_speed import START_S, TIERS, Fleets, obeyed, observation

from tidegate.cli.plan.stream import Stream

CLASSES = {"bf16": "h100", "fp8": "h100", "int4": "l40s"}
PRICES = {"h100": 3.0, "l40s": 1.8}
SHARES = {"h100": 0.70, "l40s": 0.14}
RATE_RPS, DRIFT = 24.0, 0.02


def spec(index: int) -> dict[str, object]:
    """A deployment of Llama-3.1-8B with three tiers."""
    return {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "priority": 10 * (index % 3),
        "minReplicas": 1,
        "maxReplicas": 24,
        "slo": {"ttftMilliseconds": 500, "itlMilliseconds": 40, "attainment": "0.99"},
        "tiers": [
            {"name": name, "quality": quality, "accelerator": CLASSES[name], "acceleratorsPerReplica": gpus}
            for name, quality, gpus, _ in TIERS
        ],
    }


def deployment(index: int, rate: float, ready: dict[str, int], draw: random.Random) -> dict[str, object]:
    """One deployment of a tick, including its spec."""
    total = max(1, sum(ready.values()))
    tiers = {
        name: {
            "ready": n,
            "starting": 0,
            "terminating": 0,
            "startup_s": 90.0,
            "observation": observation(rate * n / total, draw) if n else None,
        }
        for name, n in ready.items()
    }
    return {"namespace": "bench", "name": f"model-{index}", "spec": spec(index), "tiers": tiers}


def run(deployments: int, rounds: int, capacity: dict[str, int | None]) -> tuple[Fleets, list[float]]:
    """The last decided fleets, and the CPU seconds of each tick."""
    draw, stream, fleets, took = random.Random(5), Stream(), Fleets(), []
    rates = [RATE_RPS * (1 + i % 5) for i in range(deployments)]
    classes = [{"name": name, "pricePerHour": price, "capacity": capacity[name]} for name, price in PRICES.items()]
    for number in range(rounds):
        nothing = dict.fromkeys(CLASSES, 0)
        listed = [
            deployment(i, rate, fleets.get(f"model-{i}", nothing | {"bf16": 1}), draw) for i, rate in enumerate(rates)
        ]
        line = json.dumps({"time": START_S + 15.0 * number, "accelerators": classes, "deployments": listed}).encode()
        start = process_time()
        answer = stream.answer(line)
        took.append(process_time() - start)
        fleets = obeyed(answer)
        assert answer.count(b'"reason"') == deployments, "every deployment is planned"
        rates = [rate * draw.lognormvariate(0.0, DRIFT) for rate in rates]
    return fleets, took


def main() -> None:
    """Measure with scarce accelerators, and with enough of them for comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployments", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    gc.disable()  # as `tidegate plan --stream` does
    roomy: dict[str, int | None] = dict.fromkeys(PRICES)
    wanted, free = run(asked.deployments, asked.rounds, roomy)
    replicas = sum(sum(fleet.values()) for fleet in wanted.values())
    _, dealt = run(asked.deployments, asked.rounds, {name: int(replicas * share) for name, share in SHARES.items()})
    for name, took in (("room for all", free), ("short", dealt)):
        print(f"{asked.deployments} x 3 tiers, {name}: mean {mean(took[1:]):.2f} s a tick, first {took[0]:.2f} s")


if __name__ == "__main__":
    main()
