"""
A whole sandbox for one test: a control plane, nodes with GPUs, emulated vLLM servers, Prometheus, the operator.

Everything except the traffic starts as in the demo, with the same code. Tests then act as a user, an SRE or a disaster,
and ask the API server for the result.
"""

import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate.api import crd, manifests
from tidegate.domain.spec import Slo
from tidegate.errors import SourceError
from tidegate.sandbox.binaries import CONTROL_PLANE, Effort, provide
from tidegate.sandbox.control_plane import RealControlPlane
from tidegate.sandbox.demo.scenario import Options, Scenario, scenario
from tidegate.sandbox.demo.scene import state_of, tier_of
from tidegate.sandbox.demo.stage import Stage
from tidegate.sandbox.embedded import EmbeddedControlPlane
from tidegate.sandbox.kube import Kind, Object
from tidegate.sandbox.traffic.arrivals import Arrival
from tidegate.sandbox.traffic.outcomes import Outcome, Summary, summary

NAMESPACE, NAME = "prod", "chat"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CHAT = f"/apis/tidegate.io/v1alpha1/namespaces/{NAMESPACE}/inferencedeployments/{NAME}"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SLO = Slo(ttft_s=2.0, itl_s=0.040, attainment=0.95)
POLL_S = 0.5
# Starting up passes this much faster than life: two minutes take ten seconds.
SPEED = 12.0


def accelerator(name: str, product: str, *, price: str, capacity: int) -> Object:
    """An AcceleratorClass; the sandbox makes nodes for it."""
    return {
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "AcceleratorClass",
        "metadata": {"name": name},
        "spec": {
            "resourceName": "nvidia.com/gpu",
            "nodeSelector": {"nvidia.com/gpu.product": product},
            "pricePerHour": price,
            "capacity": capacity,
            "memoryGiB": 80,
        },
    }


H100 = accelerator("nvidia-h100", "NVIDIA-H100-80GB-HBM3", price="3.00", capacity=12)
A100 = accelerator("nvidia-a100", "NVIDIA-A100-SXM4-80GB", price="1.60", capacity=4)


def tier(name: str, accelerator: str, *, quality: str, gpus: int = 1, model: str = "", fault: str = "") -> Object:
    """A tier whose pods are emulated vLLM servers; `fault` makes them fail (see the emulator's faults)."""
    workload: Object = {"image": "vllm/vllm-openai:v0.32.0", "args": ["--max-model-len", "8192"]}
    workload |= {"model": model} if model else {}
    workload |= {"env": [{"name": "SANDBOX_FAULT", "value": fault}]} if fault else {}
    base = {"name": name, "quality": quality, "accelerator": accelerator, "acceleratorsPerReplica": gpus}
    return {**base, "workload": workload}


BF16 = tier("bf16", "nvidia-h100", quality="1", gpus=2)
FP8 = tier("fp8", "nvidia-h100", quality="0.995", model="Qwen/Qwen3-32B-FP8")
INT4 = tier("int4", "nvidia-a100", quality="0.97", model="Qwen/Qwen3-32B-AWQ")


def chat(*tiers: Object, **spec: Any) -> Object:
    """The InferenceDeployment that gets the traffic."""
    full = {
        "model": "Qwen/Qwen3-32B",
        "minReplicas": 1,
        "maxReplicas": 10,
        "slo": {"ttftMilliseconds": 2000, "itlMilliseconds": 40, "attainment": "0.95"},
        "quality": {"minimum": "0.95"},
        "scaleDown": {"stabilizationWindowSeconds": 15},
        "tiers": list(tiers),
        **spec,
    }
    head = {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeployment"}
    return {**head, "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": full}


def steady(rate_rps: float, *, seconds: float, start_s: float = 0.0, seed: int = 1) -> list[Arrival]:
    """Poisson arrivals of one rate, prompts of about 1000 tokens, answers of about 120."""
    chance = random.Random(seed)
    arrivals, at_s = [], start_s
    while (at_s := at_s + chance.expovariate(rate_rps)) < start_s + seconds:
        prompt, output = (max(16, round(chance.gammavariate(6.0, mean / 6.0))) for mean in (1000, 120))
        arrivals.append(Arrival(time_s=at_s, prompt_tokens=prompt, output_tokens=output))
    return arrivals


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What the deployment looks like: pods by tier and state, and its status."""

    pods: dict[str, Counter[str]]
    status: Object

    def count(self, tier_name: str, *states: str) -> int:
        """Pods of a tier in these states; in any where none is named."""
        found = self.pods.get(tier_name, Counter())
        return sum(found[state] for state in states) if states else found.total()

    def ready(self) -> int:
        """Ready replicas of all tiers."""
        return sum(found["ready"] for found in self.pods.values())

    def total(self) -> int:
        """Pods that are not on their way out."""
        return sum(found.total() - found["leaving"] for found in self.pods.values())

    def condition(self, name: str) -> tuple[str, str]:
        """(status, reason) of a condition of the InferenceDeployment; empty where it has none."""
        found = next((each for each in self.status.get("conditions", []) if each["type"] == name), {})
        return found.get("status", ""), found.get("reason", "")


class World:
    """A running sandbox."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.kube = stage, stage.kube
        self._replays = 0

    async def seen(self) -> Settled:
        """The deployment as it is now."""
        pods: dict[str, Counter[str]] = {}
        for pod in (await self.kube.get(PODS))["items"]:
            pods.setdefault(tier_of(pod), Counter())[state_of(pod)] += 1
        return Settled(pods=pods, status=(await self.kube.get(CHAT)).get("status") or {})

    async def until(self, what: str, holds: Callable[[Settled], bool], *, timeout_s: float = 90.0) -> Settled:
        """Waits for something to hold; fails with the last state and the operator's last words."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.check()
            seen = await self.seen()
            if holds(seen):
                return seen
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s; {self.describe(seen)}"
            await asyncio.sleep(POLL_S)

    async def always(self, what: str, holds: Callable[[Settled], bool], *, seconds: float) -> Settled:
        """Something holds for the whole of a time."""
        deadline = time.monotonic() + seconds
        while True:
            seen = await self.seen()
            assert holds(seen), f"{what}: does not hold; {self.describe(seen)}"
            if time.monotonic() > deadline:
                return seen
            await asyncio.sleep(POLL_S)

    def describe(self, seen: Settled) -> str:
        """A state for a person who reads a failed test."""
        shown = json.dumps({name: dict(found) for name, found in seen.pods.items()})
        return (
            f"pods {shown}\nstatus {json.dumps(seen.status)[:2500]}\noperator: {self.stage.processes.tail('operator')}"
        )

    def check(self) -> None:
        """Nothing has died that a test did not kill."""
        dead = {name: why for name, why in self.stage.processes.dead().items() if "exit code 0" not in why}
        assert not dead, dead

    async def change(self, **spec: Any) -> None:
        """Edits the InferenceDeployment's spec, as a user with kubectl does."""
        await self.kube.patch(CHAT, {"spec": spec}, Kind.MERGE)

    def replay(self, arrivals: Sequence[Arrival]) -> "Replay":
        """Starts traffic through the front, in a process of its own."""
        self._replays += 1
        folder, name = self.stage.folder, f"traffic{self._replays}"
        rows = [(each.time_s, each.prompt_tokens, each.output_tokens) for each in arrivals]
        (folder / f"{name}.arrivals.json").write_text(json.dumps(rows))
        outcomes = folder / f"{name}.jsonl"
        config = {"arrivals": str(folder / f"{name}.arrivals.json"), "url": self.stage.url, "seed": 1}
        config |= {"model": "Qwen/Qwen3-32B", "outcomes": str(outcomes)}
        (folder / f"{name}.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "tidegate.sandbox.traffic", str(folder / f"{name}.json")]
        self.stage.processes.start(name, command)
        return Replay(outcomes=outcomes, expected=len(arrivals))

    def kill_operator(self) -> None:
        """`kill -9`: no goodbye, no clean-up."""
        self.stage.processes.kill("operator", how=signal.SIGKILL)

    async def start_operator(self) -> None:
        """Starts the operator anew."""
        await self.stage.start_operator()

    def stop_prometheus(self) -> None:
        """Prometheus goes away."""
        self.stage.processes.kill("prometheus", how=signal.SIGTERM)

    def start_prometheus(self) -> None:
        """Prometheus comes back, with what it had stored."""
        self.stage.start_prometheus()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Traffic that runs."""

    outcomes: Path
    expected: int

    def so_far(self) -> list[Outcome]:
        """Requests that have ended."""
        if not self.outcomes.exists():
            return []
        lines = [line for line in self.outcomes.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [Outcome(**value) for line in lines if isinstance(value := json.loads(line), dict)]

    def between(self, begin_s: float, end_s: float) -> Summary:
        """What the clients saw whose requests ended between two moments, unix seconds."""
        start_s = float(self.outcomes.read_text().split("\n", 1)[0])
        return summary([each for each in self.so_far() if begin_s <= start_s + each.ended_s <= end_s], SLO)

    async def finish(self, *, timeout_s: float = 120.0) -> Summary:
        """Waits for the last answer; what the clients saw."""
        deadline = time.monotonic() + timeout_s
        while len(ended := self.so_far()) < self.expected:
            assert time.monotonic() < deadline, f"{self.expected - len(ended)} requests are not answered"
            await asyncio.sleep(POLL_S)
        return summary(ended, SLO)


def _scenario(documents: Sequence[Object], folder: Path) -> Scenario:
    """The manifests as the sandbox takes them; the traffic is each test's own."""
    path = folder / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    parsed = manifests.load(path, offline=False)
    return scenario(
        Options(speed=SPEED, duration_s=1.0),
        documents=list(documents),
        definitions=[yaml.safe_load(text) for text in crd.files().values()],
        deployments=parsed.deployments,
        accelerators=parsed.accelerators,
    )


@asynccontextmanager
async def world(choice: str, documents: Sequence[Object], folder: Path) -> AsyncIterator[World]:
    """
    A sandbox with these manifests applied.

    Args:
        choice: `kubernetes` or `embedded`.
        documents: Manifests; the InferenceDeployment is `chat` above.
        folder: A folder for the test's own files.
    """
    try:
        prometheus = provide(["prometheus"], effort=Effort.LOOK)["prometheus"]
        plane = EmbeddedControlPlane() if choice == "embedded" else RealControlPlane(provide(CONTROL_PLANE))
    except SourceError as error:
        pytest.skip(f"`make binaries` gets what is missing: {error}")
    stage = Stage(_scenario(documents, folder), plane=plane, prometheus_program=prometheus, say=lambda line: None)
    async with stage:
        try:
            yield World(stage)
        except BaseException:
            for log in sorted(stage.processes.logs.glob("*.log")):
                (folder / log.name).write_bytes(log.read_bytes())
            print(f"logs of the sandbox: {folder}")
            raise
