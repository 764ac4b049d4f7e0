"""
Speed of the simulated fleet: requests per second compared with Vidur, and a day through the whole closed loop.

    TIDEGATE_DATA=FOLDER python benchmarks/sim_speed.py

Vidur's runs of the same requests took 1 to 20 s each on one core of the same kind of machine, without its 60 s of
training. The ratio is printed for the fastest run, the geometric mean and the slowest run.
"""

import os
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.sim_fidelity import replay, server_of, trace_of, vidur_rows
from tidegate.domain.key import Key
from tidegate.domain.spec import Slo
from tidegate.sim import traces
from tidegate.sim.engine.fleet import Fleet
from tidegate.sim.policies.core import Tidegate
from tidegate.sim.runner import run
from tidegate.sim.score import score
from tidegate.sim.suite import H100, LLAMA_8B, scenario, service, spec, tiers

# Seconds per run.
VIDUR_RUN_S = {"fastest": 1.0, "middle": 4.5, "slowest": 20.0}
DAY_H = 24.0


def engine(data: Path) -> None:
    """Requests per CPU second of one replica on Vidur's own workloads."""
    jobs = [(trace_of(rows), server_of(data, row)) for row, rows in vidur_rows(data)]
    replay(*jobs[0])  # compile
    spent, count = 0.0, 0
    for trace, server in jobs:
        fleet = Fleet([trace], [server], ttft_edges=[1.0], gap_edges=[1.0], slots=1)
        fleet.open(deployment=0, tier=0)
        start = process_time()
        fleet.advance(trace.span_s + 36_000.0)
        spent += process_time() - start
        count += len(trace)
    print(f"one replica, Vidur's {len(jobs)} workloads: {count / spent:,.0f} requests per CPU second")
    for name, each in VIDUR_RUN_S.items():
        print(f"  against {name} runs of Vidur ({each:g} s each): {len(jobs) * each / spent:,.0f} times")


def day(data: Path) -> None:
    """A recorded day of 400,000 requests, with scrapes, decisions, pods and billing."""
    trace = traces.read(data / "traces/servegen_r1_a.csv.gz")
    of = spec("reason", LLAMA_8B, Slo(ttft_s=2.0, itl_s=0.030), tiers(H100, {"bf16": 1, "fp8": 1}))
    one = scenario("a day", (service(of, trace, {"fp8": 2}),), hours=DAY_H, seed=1)
    start = perf_counter()
    done = run(one, Tidegate())
    took = perf_counter() - start
    print(f"closed loop, {len(trace):,} requests over 24 h, {len(done.rows):,} decisions: {took:.1f} s")
    print(score(done).parts[str(Key("suite", "reason"))])


if __name__ == "__main__":
    folder = Path(os.environ["TIDEGATE_DATA"])
    engine(folder)
    day(folder)
