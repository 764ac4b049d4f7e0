"""
The service model compared with two iteration-level simulators, to neither of which it was fitted.

    python -m benchmarks.service_model FOLDER [KNEES]

1. Microsoft's Vidur (MIT) at a constant Poisson load: FOLDER contains `vidur_reference.csv`, `vidur_requests/` and
   `vidur_step_times.csv`. The law is fitted to Vidur's own step times, so that only the service model is tested:
   mean ITL, 95th percentiles, and attainment over a grid of targets.
2. Our own simulator (`tidegate.sim`), which runs the same law step by step: the rate that a replica carries, alone and
   in fleets of 2, 4 and 8, for KNEES random combinations of model, request lengths and targets. Before them edge
   cases: prompts that fill the memory, answers of one or two tokens.
"""

import csv
import gzip
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import mean, median

import numpy as np
from scipy.optimize import nnls

from benchmarks.law_extrapolation import prior_for
from tidegate.domain.estimate import POOLS
from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.domain.spec import Slo
from tidegate.estimate.capacity import carried
from tidegate.estimate.latency import itl_quantile, itl_share, ttft_quantile, ttft_share
from tidegate.estimate.normal import Floats
from tidegate.estimate.service import Service, state_at
from tidegate.sim.capacity import knee_rps, workload_of
from tidegate.sim.engine.fleet import Server
from tidegate.sim.traces import Trace

WARMUP_SHARE = 0.1
# Targets at which attainment is compared, as multiples of the simulated median.
TARGETS = (1.2, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A simulated value and its prediction."""

    seen: float
    predicted: float

    @property
    def ratio(self) -> float:
        """Predicted over simulated."""
        return self.predicted / self.seen


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    One run of Vidur.

    Args:
        name: Workload (device, kind, rate), chunk size, precision.
        used: Rate relative to the rate at which queues grow without bound.
        itl_mean, itl_p95, ttft_p50, ttft_p95: Seconds.
        attainment_error: Mean absolute difference of attainment over the grid of targets.
    """

    name: str
    used: float
    itl_mean: Pair
    itl_p95: Pair
    ttft_p50: Pair
    ttft_p95: Pair
    attainment_error: float


def compare(folder: Path) -> Sequence[Row]:
    """All runs of Vidur whose load is sustainable."""
    with (folder / "vidur_reference.csv").open() as lines:
        found = [_row(folder, run) for run in csv.DictReader(lines)]
    return [row for row in found if row is not None]


def _row(folder: Path, run: dict[str, str]) -> Row | None:
    name = f"{run['workload']}_c{run['chunk_tokens']}_{run['precision']}"
    path = folder / "vidur_requests" / f"{name}.csv.gz"
    if not path.exists():
        return None
    arrival, prompt, output, ttft, end = _requests(path)
    service = Service(
        law=_law(folder, run),
        workload=Workload(
            prompt_tokens=float(prompt.mean()),
            output_tokens=float(output.mean()),
            prompt_variation=float(prompt.std() / prompt.mean()),
            output_variation=float(output.std() / output.mean()),
        ),
        batched_tokens_max=float(run["chunk_tokens"]),
        context_max=float(run["max_model_len"]),
        burstiness=1.0,
        ttft_s=1.0,
        itl_s=1.0,
    )
    rate = len(arrival) / arrival[-1]
    if rate >= service.rate_unstable:
        return None
    steady = (np.arange(len(arrival)) >= WARMUP_SHARE * len(arrival)) & (output > 1)
    ttft, itl = ttft[steady], ((end - ttft) / np.maximum(output - 1, 1))[steady]
    state = state_at(service, np.array([rate]))
    ttfts, itls = np.array([TARGETS]) * np.median(ttft), np.array([TARGETS]) * np.median(itl)
    joint = ttft_share(service, state, ttfts)[0][:, None] * itl_share(service, state, itls)[0][None, :]
    truth = np.array([[np.mean((ttft <= t) & (itl <= i)) for i in itls[0]] for t in ttfts[0]])
    return Row(
        name=name,
        used=rate / service.rate_unstable,
        itl_mean=Pair(seen=float(np.average(itl, weights=output[steady])), predicted=float(state.itl_s[0])),
        itl_p95=Pair(seen=float(np.quantile(itl, 0.95)), predicted=float(itl_quantile(service, state, 0.95)[0])),
        ttft_p50=Pair(seen=float(np.quantile(ttft, 0.5)), predicted=float(ttft_quantile(service, state, 0.5)[0])),
        ttft_p95=Pair(seen=float(np.quantile(ttft, 0.95)), predicted=float(ttft_quantile(service, state, 0.95)[0])),
        attainment_error=float(np.abs(joint - truth).mean()),
    )


def _requests(path: Path) -> Floats:
    with gzip.open(path, "rt") as lines:
        rows = [[float(value) for value in row.values()] for row in csv.DictReader(lines)]
    return np.array(rows).T


def _law(folder: Path, run: dict[str, str]) -> PerformanceLaw:
    """The law, by relative least squares on all of Vidur's step times of the device and precision."""
    device = run["device"].split("-")[0].lower()
    rows = []
    with (folder / "vidur_step_times.csv").open() as lines:
        for row in csv.DictReader(lines):
            if (row["device"], row["precision"]) != (device, run["precision"]):
                continue
            n, context, tokens, step = (
                float(row[key]) for key in ("decode_batch", "context", "prefill_tokens", "step_ms")
            )
            decodes = row["kind"] != "prefill"
            rows.append(
                [value * 1000 / step for value in (decodes, n * decodes, n * context * decodes, not decodes, tokens)]
            )
    a, b, c, p0, p1 = nnls(np.array(rows), np.ones(len(rows)))[0].tolist()
    kv = float(run["kv_blocks"]) * float(run["block_size"])
    return PerformanceLaw(
        a_s=a, b_s=b, c_s=c, p0_s=p0, p1_s=p1, kv_cache_tokens=kv, running_max=float(run["max_batch"])
    )


MODELS = (
    ("llama-3.1-8b", "h100", "bf16", 1),
    ("llama-3.1-8b", "h100", "int4", 1),
    ("llama-3.1-8b", "a100", "bf16", 1),
    ("qwen3-32b", "h100", "bf16", 2),
    ("llama-3.1-70b", "h100", "fp8", 2),
)
# Mean prompt and output tokens, and their coefficients of variation.
REQUESTS = ((1024, 256, 1.0, 1.0), (1024, 256, 0.3, 0.3), (256, 512, 1.0, 1.0), (4000, 200, 0.5, 0.8))
SLOS = (Slo(ttft_s=0.5, itl_s=0.04, attainment=0.95), Slo(ttft_s=2.0, itl_s=0.06, attainment=0.99))
SLOS += (Slo(ttft_s=3.0, itl_s=0.1, attainment=0.95), Slo(ttft_s=1.0, itl_s=0.03, attainment=0.9))


# Edge cases: prompts that fill the memory, and answers too short for a meaningful mean ITL.
EDGES = (
    (MODELS[0], (8_000, 300, 0.3, 0.5), Slo(ttft_s=4.0, itl_s=0.06, attainment=0.9)),
    (MODELS[0], (30_000, 300, 0.3, 0.5), Slo(ttft_s=6.0, itl_s=0.06, attainment=0.9)),
    (MODELS[0], (100_000, 1_000, 0.3, 0.5), Slo(ttft_s=20.0, itl_s=0.08, attainment=0.9)),
    (MODELS[3], (30_000, 500, 0.5, 0.8), Slo(ttft_s=8.0, itl_s=0.06, attainment=0.95)),
    (MODELS[0], (1_000, 1, 0.5, 0.0), Slo(ttft_s=1.0, itl_s=0.04, attainment=0.95)),
    (MODELS[0], (1_000, 2, 0.5, 0.0), Slo(ttft_s=1.0, itl_s=0.04, attainment=0.95)),
    (MODELS[0], (8_000, 1, 0.5, 0.0), Slo(ttft_s=3.0, itl_s=0.05, attainment=0.95)),
    (MODELS[0], (300, 4, 0.5, 1.0), Slo(ttft_s=1.0, itl_s=0.04, attainment=0.95)),
)


# Fleet sizes, behind a router that picks the replica with the fewest requests.
FLEETS = (1, 2, 4, 8)


def knees(count: int, *, replicas: int = 1) -> Iterator[tuple[str, Pair]]:
    """`knee` for `count` random combinations."""
    rng = random.Random(5)
    combinations = [(m, r, s) for m in MODELS for r in REQUESTS for s in SLOS]
    for model, requests, slo in rng.sample(combinations, min(count, len(combinations))):
        yield knee(model, requests, slo, replicas=replicas)


def knee(
    model: tuple[str, str, str, int], requests: tuple[float, float, float, float], slo: Slo, *, replicas: int = 1
) -> tuple[str, Pair]:
    """Name of one combination, and the rate per replica in the simulator and in the service model, requests/s."""
    prior = prior_for(model)
    trace = _trace(*requests)
    budget = prior.serving.batched_tokens_max
    server = Server(law=prior.law, token_budget=budget, overhead_s=0.0)
    service = Service(
        law=prior.law,
        workload=workload_of(trace),
        batched_tokens_max=float(budget),
        context_max=float("inf"),
        burstiness=1.0,
        ttft_s=slo.ttft_s,
        itl_s=slo.itl_s,
        evenness=1.0,
    )
    found = carried(service, target=slo.attainment, misses=1.0)
    name = f"{' '.join(map(str, model))}, {requests}, {slo}, {replicas} replicas"
    predicted = found.rate_rps * found.pooling[POOLS.index(replicas)]
    return name, Pair(seen=knee_rps(server, trace, slo, replicas=replicas), predicted=predicted)


def _trace(prompt: float, output: float, prompt_variation: float, output_variation: float) -> Trace:
    rng = np.random.default_rng(3)

    def lengths(average: float, variation: float) -> np.ndarray:
        width = np.sqrt(np.log(1 + variation**2))
        return np.maximum(1, average * np.exp(rng.normal(-(width**2) / 2, width, 6000))).astype(np.int64)

    prompts, outputs = lengths(prompt, prompt_variation), lengths(output, output_variation)
    return Trace(
        arrival_s=np.arange(6000.0),
        prompt_tokens=prompts,
        output_tokens=outputs,
        hit_tokens=np.zeros(6000, dtype=np.int64),
    )


def main() -> None:
    """Print both comparisons."""
    print("| run | load | ITL mean | ITL p95 | TTFT p50 | TTFT p95 | attainment error |\n|---|---|---|---|---|---|---|")
    rows = compare(Path(sys.argv[1]))
    for r in rows:
        pairs = (r.itl_mean, r.itl_p95, r.ttft_p50, r.ttft_p95)
        cells = " | ".join(f"{1000 * p.seen:.1f} / {1000 * p.predicted:.1f} ms" for p in pairs)
        print(f"| {r.name} | {r.used:.2f} | {cells} | {r.attainment_error:.3f} |")
    stable = [r for r in rows if r.used < 0.85]
    for name in ("itl_mean", "itl_p95", "ttft_p50", "ttft_p95"):
        print(f"{name}: mean error {mean(abs(getattr(r, name).ratio - 1) for r in stable):.1%} below 85 % load")
    print(f"attainment: mean error {mean(r.attainment_error for r in stable):.3f}\n")
    for name, pair in (knee(*edge) for edge in EDGES):
        print(f"{name}: carries {pair.seen:.3f}, predicted {pair.predicted:.3f} requests/s, ratio {pair.ratio:.2f}")
    for replicas in FLEETS:
        ratios = []
        for name, pair in knees(int(sys.argv[2]) if len(sys.argv) > 2 else 24, replicas=replicas):
            print(f"{name}: carries {pair.seen:.2f}, predicted {pair.predicted:.2f} requests/s")
            if pair.seen > 0:
                ratios.append(max(pair.ratio, 1e-2))
        error = mean(abs(log(r)) for r in ratios)
        print(f"knees of {replicas} replicas: median ratio {median(ratios):.2f}, mean error {error:.1%}\n")


if __name__ == "__main__":
    main()
