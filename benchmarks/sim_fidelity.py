"""
Accuracy of the simulated replica compared with real vLLM runs and with Vidur, as a Markdown table.

    TIDEGATE_DATA=FOLDER python benchmarks/sim_fidelity.py

Real runs: LLMServingSim `bench/examples` (MIT), vLLM 0.19.0, 300 requests each. The step-time law is fitted to the
engine's own one-second log (tokens, running requests), never to request latencies; then the requests are replayed.
Vidur: its step times are used as a table and its arrivals are replayed; nothing is fitted.
"""

import csv
import gzip
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from tidegate.domain.law import PerformanceLaw
from tidegate.sim.engine.fleet import Fleet, Server, StepTable
from tidegate.sim.traces import Trace

Floats = NDArray[np.float64]
MS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure: measured value, simulated value, and largest allowed relative error."""

    run: str
    figure: str
    measured: float
    simulated: float
    bar: float

    @property
    def error(self) -> float:
        """Relative error; negative: the simulation is too fast."""
        return self.simulated / self.measured - 1


def read(path: Path) -> list[dict[str, float]]:
    """Rows of a CSV file, without the fields that are not numbers."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return [{k: float(v) for k, v in row.items() if _number(v)} for row in csv.DictReader(lines)]


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def column(rows: Iterable[dict[str, float]], name: str) -> Floats:
    """One column as an array."""
    return np.array([r[name] for r in rows])


def trace_of(rows: list[dict[str, float]]) -> Trace:
    """Recorded requests as a trace."""
    return Trace(
        arrival_s=column(rows, "arrival_s"),
        prompt_tokens=column(rows, "input_tokens").astype(np.int64),
        output_tokens=column(rows, "output_tokens").astype(np.int64),
    )


def replay(trace: Trace, server: Server) -> tuple[Floats, Floats]:
    """TTFT and time per output token of each request, s; shape (requests,) each."""
    fleet = Fleet([trace], [server], ttft_edges=[1.0], gap_edges=[1.0], slots=1)
    fleet.open(deployment=0, tier=0)
    fleet.advance(trace.span_s + 36_000.0)
    fleet.check()
    requests = fleet.state.requests
    ttft = requests.first_s - requests.arrival_s
    return ttft, (requests.finish_s - requests.first_s) / np.maximum(requests.output - 1, 1)


# --- real vLLM -----------------------------------------------------------------------------------------------------


# KV memory of a 96 GB card with 16 GB of weights; it is never short in these runs.
KV_TOKENS = 5e5


def calibrate(rows: list[dict[str, float]], seconds: list[dict[str, float]], *, running_max: float) -> PerformanceLaw:
    """
    Step-time law from the engine's log: for each second, steps * a + tokens * b + steps * context * c + prompts * p1 =
    1.

    Steps are tokens divided by running requests; context follows from the requests running then and their progress.
    """
    running = np.maximum(column(seconds, "running"), 1)
    tokens, prompts = column(seconds, "gen_throughput"), column(seconds, "prompt_throughput")
    busy = (running >= 2) & (tokens > 0)
    steps = tokens / running
    context = np.array([_context(rows, t) for t in column(seconds, "t")])
    design = np.stack([steps, tokens, steps * context, prompts], axis=1)[busy]
    scale = design.max(axis=0)
    found, _ = nnls(design / scale, np.ones(len(design)))
    a, b, c, p1 = found / scale
    return PerformanceLaw(
        a_s=float(a), b_s=float(b), c_s=float(c), p0_s=float(a), p1_s=float(p1), kv_cache_tokens=KV_TOKENS,
        running_max=running_max,
    )  # fmt: skip


def _context(rows: list[dict[str, float]], end_s: float) -> float:
    """Total context, tokens, of the requests decoding half a second before `end_s`."""
    at, total = end_s - 0.5, 0.0
    for r in rows:
        first, last = r["arrival_s"] + r["ttft_s"], r["arrival_s"] + r["e2e_s"]
        if first <= at < last:
            total += r["input_tokens"] + r["output_tokens"] * (at - first) / (last - first)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRun:
    """
    One recorded run.

    Data-parallel engines of an expert-parallel model exchange tokens in every layer, so they step in lockstep. They are
    replayed as one replica with the batch size and the token budget of all engines.
    """

    name: str
    engines: int


REAL_RUNS = (RealRun(name="rtxpro6000_llama-3.1-8b", engines=1), RealRun(name="rtxpro6000_qwen3-30b-a3b", engines=2))


def real_runs(data: Path) -> Iterable[Line]:
    """Mean TPOT, median TTFT and makespan of the real runs."""
    for run in REAL_RUNS:
        rows = read(data / "performance/vllm_measured" / f"{run.name}.csv.gz")
        seconds = read(data / "performance/vllm_measured" / f"{run.name}_timeseries.csv")
        law = calibrate(rows, seconds, running_max=128.0 * run.engines)
        ttft, tpot = replay(trace_of(rows), Server(law=law, token_budget=2048 * run.engines))
        arrival, output, real_ttft = (column(rows, n) for n in ("arrival_s", "output_tokens", "ttft_s"))
        real_tpot = (column(rows, "e2e_s") - real_ttft) / np.maximum(output - 1, 1)
        pairs = (
            ("TPOT mean, ms", real_tpot.mean() / MS, tpot.mean() / MS, 0.05),
            ("TTFT p50, ms", np.median(real_ttft) / MS, np.median(ttft) / MS, 0.15),
            (
                "makespan, s",
                (arrival + column(rows, "e2e_s")).max(),
                (arrival + ttft + tpot * (output - 1)).max(),
                0.05,
            ),
        )
        for figure, measured, simulated, bar in pairs:
            yield Line(run=run.name, figure=figure, measured=float(measured), simulated=float(simulated), bar=bar)


# --- Vidur ---------------------------------------------------------------------------------------------------------


def table_of(data: Path, device: str, precision: str) -> StepTable:
    """
    Vidur's step times, decomposed: prompt steps without prefix give the linear layers, their growth with the prefix
    gives prompt attention, and decode steps minus the linear layers give decode attention.
    """
    with (data / "performance/vidur_step_times.csv").open() as lines:
        rows = [r for r in csv.DictReader(lines) if r["device"] == device and r["precision"] == precision]
    prompt = {
        (int(r["prefill_tokens"]), int(r["context"])): float(r["step_ms"]) for r in rows if r["kind"] == "prefill"
    }
    decode = {(int(r["decode_batch"]), int(r["context"])): float(r["step_ms"]) for r in rows if r["kind"] == "decode"}
    chunks, prefixes = sorted({c for c, _ in prompt}), sorted({p for _, p in prompt})
    slopes = [
        (prompt[c, prefixes[-1]] - prompt[c, 0]) / prefixes[-1] / c for c in chunks if (c, prefixes[-1]) in prompt
    ]
    attention = float(np.median(slopes[-3:]))
    batches, contexts = sorted({b for b, _ in decode}), sorted({c for _, c in decode})
    tokens = [1.0, *(float(c) for c in chunks)]
    least = min(decode[1, contexts[0]], prompt[chunks[0], 0])
    linear = [least, *(prompt[c, 0] - attention * c * c / 2 for c in chunks)]
    parts = [
        [max(0.0, decode[b, c] - float(np.interp(b, tokens, linear))) for c in contexts if (b, c) in decode]
        for b in batches
    ]
    whole = [p for p in parts if len(p) == len(contexts)]
    return StepTable(
        linear_tokens=tuple(tokens),
        linear_s=tuple(v * MS for v in linear),
        decode_batch=tuple(float(b) for b, p in zip(batches, parts, strict=True) if len(p) == len(contexts)),
        decode_context=tuple(float(c) for c in contexts),
        decode_s=tuple(tuple(v * MS for v in p) for p in whole),
        attention_s=attention * MS,
    )


def vidur_rows(data: Path) -> Iterable[tuple[dict[str, str], list[dict[str, float]]]]:
    """Every Vidur run whose requests are recorded: its row of the reference table, and its requests."""
    with (data / "performance/vidur_reference.csv").open() as lines:
        reference = list(csv.DictReader(lines))
    for row in reference:
        name = f"{row['workload']}_c{row['chunk_tokens']}_{row['precision']}.csv.gz"
        if (path := data / "performance/vidur_requests" / name).exists():
            yield row, read(path)


def server_of(data: Path, row: dict[str, str]) -> Server:
    """The replica that Vidur simulated in a run."""
    kv_tokens = float(row["kv_blocks"]) * float(row["block_size"])
    limits = PerformanceLaw(
        a_s=0, b_s=0, c_s=0, p0_s=0, p1_s=0, running_max=float(row["max_batch"]), kv_cache_tokens=kv_tokens
    )
    table = table_of(data, row["device"].split("-")[0].lower(), row["precision"])
    return Server(law=limits, table=table, token_budget=int(row["chunk_tokens"]), overhead_s=0.0)


def vidur_runs(data: Path) -> Iterable[Line]:
    """TPOT p50 and p99 and TTFT p50 of every Vidur run; no allowed error for runs above 85 % of the capacity."""
    for row, rows in vidur_rows(data):
        ttft, tpot = replay(trace_of(rows), server_of(data, row))
        kept = slice(len(rows) // 10, None)
        real_ttft = column(rows, "ttft_s")
        real_tpot = (column(rows, "e2e_s") - real_ttft) / np.maximum(column(rows, "output_tokens") - 1, 1)
        below = float(row["poisson_rps"]) <= BELOW[row["workload"].rpartition("_")[0]]
        figures = (
            ("TPOT", real_tpot, tpot, 50, 0.08),
            ("TPOT", real_tpot, tpot, 99, 0.15),
            ("TTFT", real_ttft, ttft, 50, 0.15),
        )
        for name, theirs, ours, level, bar in figures:
            yield Line(
                run=f"Vidur {row['workload']} chunk {row['chunk_tokens']}", figure=f"{name} p{level}, ms",
                measured=float(np.percentile(theirs[kept], level)) / MS,
                simulated=float(np.percentile(ours[kept], level)) / MS, bar=bar if below else float("nan"),
            )  # fmt: skip


# Rates, requests/s, up to which Vidur's replica is below 85 % of its capacity, from its own table.
BELOW = {"a100_conv": 5.5, "a100_accelmark": 15.0, "a30_conv": 2.0, "a30_fixed": 2.0, "h100_conv": 14.0}
KNEE_TTFT_MS = 1000.0


def knees(data: Path) -> Iterable[Line]:
    """Rate at which the p99 of TTFT crosses one second, interpolated between the rates of Vidur's runs."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for row, rows in vidur_rows(data):
        ttft, _ = replay(trace_of(rows), server_of(data, row))
        kept = slice(len(rows) // 10, None)
        pair = [float(np.percentile(x[kept], 99)) / MS for x in (column(rows, "ttft_s"), ttft)]
        name = f"{row['workload'].rpartition('_')[0]} chunk {row['chunk_tokens']}"
        series.setdefault(name, []).append((float(row["poisson_rps"]), *pair))  # type: ignore[arg-type]
    for name, points in series.items():
        rates, theirs, ours = np.array(sorted(points)).T
        if theirs.min() < KNEE_TTFT_MS < theirs.max() and ours.max() > KNEE_TTFT_MS:
            yield Line(
                run=f"Vidur {name}", figure="knee (TTFT p99 = 1 s), req/s", bar=0.10,
                measured=float(np.interp(KNEE_TTFT_MS, theirs, rates)),
                simulated=float(np.interp(KNEE_TTFT_MS, ours, rates)),
            )  # fmt: skip


def main() -> int:
    """Print the table; returns 1 if an error is larger than allowed."""
    data = Path(os.environ["TIDEGATE_DATA"])
    lines = [*real_runs(data), *vidur_runs(data), *knees(data)]
    print("| run | figure | measured | simulated | error | bar |\n|---|---|---|---|---|---|")
    missed = 0
    for line in lines:
        bar = "past 85 % of capacity" if np.isnan(line.bar) else f"{line.bar:.0%}"
        bad = abs(line.error) > line.bar
        missed += bad
        mark = " **missed**" if bad else ""
        print(
            f"| {line.run} | {line.figure} | {line.measured:.2f} | {line.simulated:.2f} "
            f"| {line.error:+.1%}{mark} | {bar} |"
        )
    print(f"\n{missed} of {sum(not np.isnan(x.bar) for x in lines)} bars missed")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
