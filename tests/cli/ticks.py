"""Builders of ticks of the plan protocol."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from tidegate.cli.plan.stream import Stream

START_S = 1_716_000_000.0
Json = dict[str, Any]

SPEC: Json = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "minReplicas": 1,
    "maxReplicas": 12,
    "slo": {"ttftMilliseconds": 500, "itlMilliseconds": 40, "attainment": "0.99"},
    "cost": {"budgetPerHour": "40"},
    "tiers": [
        {"name": "bf16", "quality": "1", "accelerator": "h100", "acceleratorsPerReplica": 1},
        {"name": "fp8", "quality": "0.995", "accelerator": "h100", "acceleratorsPerReplica": 1},
    ],
}


def spec(**changes: object) -> Json:
    return copy.deepcopy(SPEC) | changes


def observation(rate: float, *, replicas: int = 1) -> Json:
    """What a tier reports at this rate, by a simple law: ITL 7 ms and 0.1 ms per running request."""
    running = rate * 2.5
    itl = 0.007 + 0.0001 * running / replicas
    requests, tokens = rate * 60, rate * 60 * 250

    def buckets(edges: tuple[str, ...], center: float, total: float) -> Json:
        return {edge: round(total / (1 + (center / float(edge)) ** 4), 2) for edge in edges}

    return {
        "window_s": 60,
        "age_s": 3.0,
        "arrival_rate": rate,
        "completion_rate": rate,
        "prompt_tokens_mean": 1000,
        "output_tokens_mean": 250,
        "running": running,
        "waiting": 0,
        "kv_cache_usage": 0.1,
        "preemption_rate": 0,
        "prefix_cache_hit_rate": None,
        "ttft_buckets": buckets(("0.025", "0.05", "0.1", "0.25", "0.5", "1", "+Inf"), 0.06, requests),
        "itl_buckets": buckets(("0.005", "0.01", "0.02", "0.03", "0.05", "0.1", "+Inf"), itl, tokens),
        "ttft_mean": 0.06,
        "itl_mean": round(itl, 6),
        "gpu_utilization": 0.5,
        "power_watts": 450 * replicas,
    }


def tier(ready: int = 0, *, starting: int = 0, rate: float | None = None) -> Json:
    seen = None if rate is None or not ready else observation(rate, replicas=ready)
    return {"ready": ready, "starting": starting, "terminating": 0, "startup_s": 90.0, "observation": seen}


def deployment(name: str = "chat", **fields: object) -> Json:
    return {"namespace": "prod", "name": name, **fields}


def chat(rate: float | None = 10.0, *, ready: int = 2, **fields: Any) -> Json:
    return deployment(tiers={"bf16": tier(ready, rate=rate), "fp8": tier()}, **fields)


def tick(number: int, *deployments: object, **fields: object) -> bytes:
    """One line, 15 s after the one before."""
    body: Json = {
        "time": START_S + 15 * number,
        "accelerators": [{"name": "h100", "pricePerHour": 3.0, "capacity": 16}],
        "deployments": list(deployments),
    }
    return json.dumps(body | fields).encode()


def asked(stream: Stream, line: bytes) -> Json:
    """The answer, decoded."""
    reply = stream.answer(line)
    assert reply.endswith(b"\n")
    assert reply.count(b"\n") == 1
    found: Json = json.loads(reply, parse_constant=_no_such_number)
    return found


def replicas(plan: Mapping[str, Any]) -> dict[str, int]:
    return {name: decided["replicas"] for name, decided in plan["tiers"].items()}


def _no_such_number(text: str) -> float:
    raise AssertionError(f"{text} is no JSON")
