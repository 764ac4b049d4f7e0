"""
CPU time of a tick of the operator by part: decode the metrics, look at the cluster, decide.

    PYTHONPATH=operator python -m benchmarks.tick_speed [DEPLOYMENTS]

Two replicas per deployment, as vLLM 0.32 reports them (66 histogram series each). Prints CPU seconds per part for the
first tick and the median of the next three, and their ratio to a tick of 15 s.
"""

import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import msgspec

from tidegate import cycle
from tidegate.domain.key import Key
from tidegate.domain.observation import FleetObservation
from tidegate.domain.spec import Accelerator, DeploymentSpec, FleetPolicy, Slo, TargetRef, TierSpec
from tidegate.memory import FleetMemory
from tidegate.observe.cluster import Cluster
from tidegate.observe.collect import Harvest
from tidegate.observe.decode import pod_samples
from tidegate.observe.dialects import FLOW, HISTOGRAMS, NOW
from tidegate.observe.objects import PodView
from tidegate.observe.queries import Dialect
from tidegate.observe.replicas import Roster
from tidegate.ports import ObjectRef, WorkloadView
from tidegate.units import TICK_S

REPLICAS = 2
EDGES = [*(str(0.001 * 1.7**i) for i in range(21)), "+Inf"]
H100 = Accelerator(name="nvidia-h100", price_usd_per_hour=3.0)


def spec(number: int) -> DeploymentSpec:
    """One deployment with one tier that points at a workload."""
    ref = TargetRef(api_version="apps/v1", kind="Deployment", name=f"d{number}")
    tier = TierSpec(
        name="bf16",
        quality=1.0,
        accelerator="nvidia-h100",
        accelerators_per_replica=1,
        replicas_min=0,
        replicas_max=8,
        target_ref=ref,
    )
    model = "meta-llama/Llama-3.1-8B-Instruct"
    slo = Slo(ttft_s=0.5, itl_s=0.04)
    return DeploymentSpec(key=Key("prod", f"d{number}"), model=model, slo=slo, tiers=(tier,), replicas_max=8)


def answers(pods: list[str], time_s: float) -> dict[str, bytes]:
    """Prometheus' responses by query name, as JSON."""

    def series(value: float, **labels: str) -> dict[str, Any]:
        return {"metric": {"namespace": "prod", **labels}, "value": [time_s, str(value)]}

    now = [series(1.0, pod=p, signal=s.name) for p in pods for s in NOW if s.name != "asleep"]
    now += [series(time_s - 5, pod=p, signal="seen") for p in pods]
    flow = [series(3.0, pod=p, signal=s.name) for p in pods for s in FLOW if s.name != "aborted"]
    vectors = {"now": now, "flow": flow}
    for name in HISTOGRAMS:
        vectors[name] = [series(float(i), pod=p, le=edge) for p in pods for i, edge in enumerate(EDGES)]
    return {name: json.dumps(vector).encode() for name, vector in vectors.items()}


def cluster(deployments: int) -> tuple[Cluster, list[str]]:
    """A cluster whose caches are filled with ready pods, and the pods' names; there is no API server."""
    made = Cluster(None, Roster(window_s=60.0, stale_s=60.0), clock=time.monotonic)  # type: ignore[arg-type]
    informer = made.kinds["apps/v1", "Deployment"].informer
    assert informer is not None
    informer.synced = True
    for n in range(deployments):
        ref = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="prod", name=f"d{n}")
        view = WorkloadView(ref=ref, uid=f"w{n}", path=f"/d{n}", replicas=REPLICAS, selector=f"app=d{n}")
        informer.items["prod", f"d{n}"] = ("1", view)
        for r in range(REPLICAS):
            name = f"d{n}-{r}"
            made.pods.items["prod", name] = PodView(
                namespace="prod",
                name=name,
                uid=name,
                labels={"app": f"d{n}"},
                created_s=0.0,
                ready_s=90.0,
                ready=True,
                terminating=False,
                unschedulable=False,
                ended=False,
                node="n",
                requests={"nvidia.com/gpu": 1},
            )
    return made, [name for _, name in made.pods.items]


def main() -> None:
    """Time four ticks and print the result."""
    deployments = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    specs = [spec(n) for n in range(deployments)]
    caches, pods = cluster(deployments)
    memory, took = FleetMemory(), list[dict[str, float]]()
    for tick in range(4):
        time_s = 1_000_000.0 + TICK_S * tick
        sent = answers(pods, time_s)
        marks = [time.process_time()]
        vectors = {name: msgspec.json.decode(body) for name, body in sent.items()}
        samples = pod_samples(vectors, Dialect(), time_s=time_s)
        marks.append(time.process_time())
        sight = caches.look(specs, {"nvidia-h100": H100}, Harvest(time_s=time_s, samples=samples))
        marks.append(time.process_time())
        policy = FleetPolicy(deployments={s.key: s for s in specs}, accelerators={"nvidia-h100": H100})
        observation = FleetObservation(time_s=time_s, deployments=sight.deployments)
        memory, _ = cycle.step(memory, observation, policy)
        marks.append(time.process_time())
        took.append(dict(zip(("decode", "look", "decide"), (b - a for a, b in pairwise(marks)), strict=True)))
    print(f"{deployments} deployments, {len(pods)} replicas: first tick, later ticks (CPU s), share of {TICK_S:g} s")
    for part in took[0]:
        later = statistics.median(t[part] for t in took[1:])
        print(f"  {part:8} {took[0][part]:8.3f} {later:8.3f} {later / TICK_S:7.1%}")


if __name__ == "__main__":
    main()
