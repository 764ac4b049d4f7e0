"""
Cost of the decision core through the plan protocol: a tick of one deployment, and a tick of a large fleet.

    python benchmarks/plan_speed.py [--deployments 10000] [--tiers 3] [--ticks 400] [--rounds 8]

One deployment: noisy load, from input line to output line, including decoding and encoding; the spec is sent once, as
a client would. Fleet: all deployments in one line, in three situations: never seen before; after a restart, with
memories of deployments that ran for hours; and steady, that is the ticks after that, which contain observations only.
Within eight of these, every deployment learns once. Decided replicas are ready at the next tick. Times are CPU time on
one core; memory is the peak of the whole process.
"""

import argparse
import gc
import json
import random
import resource
from statistics import mean, median, quantiles
from time import process_time

from tidegate.cli.plan.stream import Stream
from tidegate.domain.key import Key
from tidegate.memory import DeploymentMemory, FleetMemory

START_S = 1_716_000_000.0
TIERS = (("bf16", "1", 1, 6.0), ("fp8", "0.995", 1, 9.0), ("int4", "0.96", 1, 7.0))
TTFT_EDGES = ("0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
ITL_EDGES = ("0.005", "0.01", "0.015", "0.02", "0.025", "0.05", "0.1", "0.25", "+Inf")
# The memories of a running fleet are copies of this many, from simulated runs of up to three hours (720 ticks).
WATCHED, WATCHED_TICKS = 16, 720


def spec(tiers: int) -> dict[str, object]:
    """A deployment of Llama-3.1-8B with this many tiers."""
    return {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "minReplicas": 1,
        "maxReplicas": 24,
        "slo": {"ttftMilliseconds": 500, "itlMilliseconds": 40, "attainment": "0.99"},
        "cost": {"budgetPerHour": "60"},
        "tiers": [
            {"name": name, "quality": quality, "accelerator": "h100", "acceleratorsPerReplica": gpus}
            for name, quality, gpus, _ in TIERS[:tiers]
        ],
    }


def histogram(edges: tuple[str, ...], center: float, total: float) -> dict[str, float]:
    """Cumulative counts of a distribution around `center`."""
    return {edge: round(total / (1.0 + (center / float(edge)) ** 3), 3) for edge in edges}


def observation(rate: float, draw: random.Random) -> dict[str, object]:
    """Observation of one tier with ready replicas."""
    running = rate * 3.0 * draw.uniform(0.9, 1.1)
    return {
        "window_s": 60.0,
        "age_s": 5.0,
        "arrival_rate": rate,
        "completion_rate": rate,
        "prompt_tokens_mean": draw.gauss(1000.0, 60.0),
        "output_tokens_mean": draw.gauss(250.0, 15.0),
        "running": running,
        "waiting": 0,
        "kv_cache_usage": min(1.0, 0.002 * running),
        "preemption_rate": 0.0,
        "prefix_cache_hit_rate": None,
        "ttft_buckets": histogram(TTFT_EDGES, 0.05, rate * 60),
        "itl_buckets": histogram(ITL_EDGES, 0.009, rate * 60 * 250),
        "ttft_mean": 0.06,
        "itl_mean": 0.010 + 0.00005 * running,
        "gpu_utilization": 0.6,
        "power_watts": 500.0,
    }


Fleets = dict[str, dict[str, int]]


def deployment(index: int, tiers: int, *, draw: random.Random, sent: object, fleets: Fleets) -> dict[str, object]:
    """One deployment of a tick. The last decided fleet is ready; at first a few replicas of the first tier."""
    # 480 to 2,400 requests per minute: Poisson counts would have 2 to 5 % of noise.
    rate = 8.0 * (1 + index % 5) * draw.lognormvariate(0.0, 0.04)
    ready = fleets.get(f"model-{index}", {TIERS[0][0]: 1 + index % 5})
    total = max(1, sum(ready.values()))
    body: dict[str, object] = {
        "namespace": "bench",
        "name": f"model-{index}",
        "tiers": {
            name: {
                "ready": ready.get(name, 0),
                "starting": 0,
                "terminating": 0,
                "startup_s": 90.0,
                "observation": observation(rate * ready[name] / total, draw) if ready.get(name) else None,
            }
            for name, *_ in TIERS[:tiers]
        },
    }
    return body if sent is None else body | {"spec": sent}


def obeyed(answer: bytes) -> Fleets:
    """The decided replicas by deployment and tier, which are ready at the next tick."""
    return {
        plan["name"]: {name: tier["replicas"] for name, tier in plan["tiers"].items()}
        for plan in json.loads(answer)["deployments"]
    }


def tick(
    number: int, *, deployments: int, tiers: int, draw: random.Random, fleets: Fleets, specs: bool = False
) -> bytes:
    """One line of the protocol."""
    sent = spec(tiers) if specs else None
    listed = [deployment(i, tiers, draw=draw, sent=sent, fleets=fleets) for i in range(deployments)]
    accelerators = [{"name": "h100", "pricePerHour": 3.0, "capacity": None}]
    line = {"time": START_S + 15.0 * number, "accelerators": accelerators, "deployments": listed}
    return json.dumps(line).encode()


def one(ticks: int, tiers: int) -> None:
    """Print the CPU time of one deployment's tick."""
    draw, stream, took, fleets = random.Random(1), Stream(), [], Fleets()
    for number in range(ticks):
        line = tick(number, deployments=1, tiers=tiers, draw=draw, fleets=fleets, specs=number == 0)
        start = process_time()
        answer = stream.answer(line)
        took.append((process_time() - start) * 1e3)
        fleets = obeyed(answer)
    steady = took[ticks // 10 :]
    print(
        f"one deployment x {tiers} tiers: median {median(steady):.3f} ms, "
        f"p99 {quantiles(steady, n=100)[98]:.3f} ms, first {took[0]:.1f} ms"
    )


def watched(tiers: int) -> list[dict[str, object]]:
    """Memories of `WATCHED` deployments after hours, as read after a restart; one was added per tick."""
    draw, stream, fleets = random.Random(3), Stream(), Fleets()
    for number in range(WATCHED_TICKS):
        listed = min(WATCHED, number + 1)
        line = tick(number - WATCHED_TICKS, deployments=listed, tiers=tiers, draw=draw, fleets=fleets, specs=True)
        fleets = obeyed(stream.answer(line))
    return [memory.to_json() for memory in stream.memory.deployments.values()]


def restarted(deployments: int, tiers: int) -> Stream:
    """A stream with memories of this many deployments."""
    known = watched(tiers)
    keys = [Key("bench", f"model-{i}") for i in range(deployments)]
    memories = {key: DeploymentMemory.from_json(known[i % WATCHED]) for i, key in enumerate(keys)}
    return Stream(memory=FleetMemory(deployments=memories))


def fleet(stream: Stream, deployments: int, tiers: int, *, rounds: int) -> list[float]:
    """CPU seconds of each tick of a large fleet; the first one contains all specs."""
    draw, fleets, took = random.Random(2), Fleets(), []
    for name, memory in ((key.name, memory) for key, memory in stream.memory.deployments.items()):
        if memory.plan is not None:
            fleets[name] = dict(zip(memory.plan.names, memory.plan.target, strict=True))
    for number in range(rounds):
        line = tick(number, deployments=deployments, tiers=tiers, draw=draw, fleets=fleets, specs=number == 0)
        start = process_time()
        answer = stream.answer(line)
        took.append(process_time() - start)
        fleets = obeyed(answer)
        assert answer.count(b'"reason"') == deployments, "every deployment is planned"
    return took


def main() -> None:
    """Run and print both measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployments", type=int, default=10_000)
    parser.add_argument("--tiers", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--ticks", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    gc.disable()  # as `tidegate plan --stream` does
    one(asked.ticks, asked.tiers)
    shape = f"{asked.deployments} x {asked.tiers} tiers"
    first = fleet(Stream(), asked.deployments, asked.tiers, rounds=1)
    print(f"{shape}, never seen before, specs and all: {first[0]:.2f} s")
    again, *steady = fleet(
        restarted(asked.deployments, asked.tiers), asked.deployments, asked.tiers, rounds=asked.rounds + 1
    )
    print(f"{shape}, after a restart, specs and all: {again:.2f} s")
    print(
        f"{shape}, steady: mean {mean(steady):.2f} s, {min(steady):.2f} to {max(steady):.2f} s in {asked.rounds} ticks"
    )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak_mib:.0f} MiB, {peak_mib * 1024 / asked.deployments:.1f} KiB per deployment")


if __name__ == "__main__":
    main()
