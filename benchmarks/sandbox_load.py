"""
Load of the sandbox on this machine: CPU of servers, front end and replayer, and whether the servers keep up.

    python benchmarks/sandbox_load.py [--rate 17] [--seconds 20] [--replicas 8]

Each part runs in its own process, as in the demo. The demo runs well on two cores if the sum is far below one core.
The figures of a run are valid only if few steps are late.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time

import numpy as np

from tidegate.domain.law import PerformanceLaw
from tidegate.domain.spec import Slo
from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.lag import Lag
from tidegate.sandbox.emulator.server import EmulatedServer, ServerSpec
from tidegate.sandbox.front import Backends, Front
from tidegate.sandbox.traffic import Arrival, Outcome, Target, replay, summary

# fp8 Qwen3-32B on an H100, as in the demo.
LAW = PerformanceLaw(
    a_s=0.01518, b_s=3.66e-5, c_s=8.33e-8, p0_s=0.0092, p1_s=6.54e-5, kv_cache_tokens=150_000, running_max=16
)
ADDRESS, FRONT_PORT = "127.98.0.{}", 18980


async def servers(count: int) -> dict[str, float]:
    """Run emulated servers until standard input is closed; returns how late their steps were."""
    lag = Lag()
    for index in range(count):
        spec = ServerSpec(options=parse(["model"]), law=LAW, address=ADDRESS.format(index + 1), lag=lag)
        await EmulatedServer(spec).start()
    await _until_told()
    return lag.figures()


async def front(count: int) -> dict[str, float]:
    """Run the front end until standard input is closed."""
    backends = Backends()
    backends.update("all", frozenset((ADDRESS.format(index + 1), 8000) for index in range(count)))
    await Front(backends).start("127.0.0.1", FRONT_PORT)
    await _until_told()
    return {}


async def _until_told() -> None:
    before = time.process_time()
    print("up", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"cpu_s": time.process_time() - before}), flush=True)


def _child(part: str, replicas: int) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--part", part, "--replicas", str(replicas)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def _arrivals(rate_rps: float, seconds: float) -> list[Arrival]:
    chance = np.random.default_rng(1)
    times = np.cumsum(chance.exponential(1 / rate_rps, int(rate_rps * seconds)))
    return [
        Arrival(time_s=float(t), prompt_tokens=int(p), output_tokens=max(2, int(o)))
        for t, p, o in zip(times, chance.gamma(6, 50, len(times)), chance.gamma(6, 37, len(times)), strict=True)
    ]


def main(rate_rps: float, seconds: float, replicas: int) -> None:
    """Run all three parts and print their CPU use."""
    children = {part: _child(part, replicas) for part in ("servers", "front")}
    outcomes: list[Outcome] = []
    before, start = time.process_time(), time.monotonic()
    target = Target(url=f"http://127.0.0.1:{FRONT_PORT}", model="model")
    asyncio.run(replay(_arrivals(rate_rps, seconds), target, seed=1, ended=outcomes.append))
    took, cpu = time.monotonic() - start, {"replayer": time.process_time() - before}
    for part, child in children.items():
        lines = child.communicate("")[0].splitlines()
        cpu[part] = json.loads(lines[0])["cpu_s"]
        if part == "servers":
            lag = json.loads(lines[1])
    seen = summary(outcomes, Slo(ttft_s=1.0, itl_s=0.04))
    print(f"{seen.requests} requests, {seen.tokens / took:.0f} tokens/s over {replicas} replicas, {seen.failed} failed")
    for part, cpu_s in cpu.items():
        print(f"{part:<9} {cpu_s / took:6.1%} of a core, {1e6 * cpu_s / seen.tokens:5.0f} us per token")
    print(f"{'sum':<9} {sum(cpu.values()) / took:6.1%} of a core")
    print(f"late steps {lag['steps_late'] / lag['steps']:.2%}, worst {1000 * lag['lag_worst_s']:.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=17.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--part", choices=["servers", "front"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(asyncio.run({"servers": servers, "front": front}[given.part](given.replicas))), flush=True)
    else:
        main(given.rate, given.seconds, given.replicas)
