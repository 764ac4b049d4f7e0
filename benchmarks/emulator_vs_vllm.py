"""
The emulated server compared with the real engine: the same trace through both, as their clients see it.

    PYTHONPATH=operator python -m benchmarks.emulator_vs_vllm [CASE ...]

The real engine is vLLM on the CPU with a tiny model, where each step sleeps according to the same law (`tidegate
sandbox vllm-env` creates its environment). The share of late steps is printed: if it is high, the machine was too slow
for the law and the figures are not valid.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tidegate.domain.law import PerformanceLaw
from tidegate.domain.spec import Slo
from tidegate.errors import SourceError
from tidegate.sandbox.control_plane.real import free_ports
from tidegate.sandbox.emulator.server import LAW_VARIABLE
from tidegate.sandbox.traffic import Arrival, Outcome, Summary, Target, replay, summary
from tidegate.sandbox.vllm.environment import find_environment
from tidegate.sandbox.vllm.factory import Factory, Order

MODEL = "tiny"
HOST = "127.0.0.1"
SEED = 11
# Steps of 20 to 60 ms: long compared with the tiny model's own steps on a busy machine, short enough for many of them.
LAW = PerformanceLaw(a_s=0.02, b_s=4e-4, c_s=5e-7, p0_s=0.01, p1_s=1e-4, kv_cache_tokens=64000, running_max=64)
FIGURES = ("ttft_s_p50", "ttft_s_p95", "itl_s_p50", "itl_s_p95")
COUNTERS = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:num_preemptions_total",
    "vllm:iteration_tokens_total_count",
)
SLO = Slo(ttft_s=1.0, itl_s=0.05)
WARM_UP = [Arrival(time_s=0.1 * i, prompt_tokens=200, output_tokens=20) for i in range(12)]
# The servers report how late they are about twice a second.
SETTLE_S = 1.0
# If a larger share of steps ended late, the machine was too slow for the law.
LATE_SHARE_MAX = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    A trace, and the arguments of its server.

    Args:
        rate_rps: Poisson arrivals, requests/s.
        prompt_tokens, output_tokens: Mean lengths, gamma-distributed.
        arguments: vLLM arguments, in addition to those that all cases share.
        duration_s: How long requests arrive, s.
    """

    rate_rps: float
    prompt_tokens: float
    output_tokens: float
    arguments: Sequence[str]
    duration_s: float = 40.0


CASES: Mapping[str, Case] = {
    "light": Case(rate_rps=1.5, prompt_tokens=300, output_tokens=100, arguments=("--max-num-seqs=16",)),
    "busy": Case(rate_rps=4.0, prompt_tokens=300, output_tokens=100, arguments=("--max-num-seqs=16",)),
    "queueing": Case(rate_rps=3.0, prompt_tokens=300, output_tokens=100, arguments=("--max-num-seqs=8",)),
    "long prompts in chunks": Case(
        rate_rps=1.5,
        prompt_tokens=1500,
        output_tokens=60,
        arguments=("--max-num-seqs=16", "--max-num-batched-tokens=512"),
    ),
    "short of memory": Case(
        rate_rps=3.0,
        prompt_tokens=300,
        output_tokens=150,
        arguments=("--max-num-seqs=16", "--num-gpu-blocks-override=129"),
    ),
}
SHARED = (f"--served-model-name={MODEL}", "--block-size=32", "--max-model-len=4096", "--shutdown-timeout=5")
DEFAULTS = ("--num-gpu-blocks-override=2001", "--max-num-batched-tokens=2048")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    The result of one server for a trace.

    Args:
        seen: What its clients measured.
        late_share: Share of steps that ended late.
        page: Its `/metrics` at the end.
    """

    seen: Summary
    late_share: float
    page: str

    def counter(self, name: str) -> float:
        """Sum of a counter's samples."""
        families = text_string_to_metric_families(self.page)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def names(self) -> dict[str, tuple[str, frozenset[str], frozenset[str]]]:
        """Type, label names and bucket edges of every sample name."""
        found: dict[str, tuple[str, frozenset[str], frozenset[str]]] = {}
        for family in text_string_to_metric_families(self.page):
            for sample in family.samples:
                _, _, edges = found.get(sample.name, ("", frozenset(), frozenset()))
                edge = {sample.labels["le"]} if "le" in sample.labels else set()
                found[sample.name] = (family.type, frozenset(sample.labels), edges | edge)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both runs of one case."""

    case: str
    emulated: Run
    real: Run

    def figures(self) -> dict[str, tuple[float, float, float]]:
        """Emulated value, real value, and relative difference, by figure."""
        both = {name: (getattr(self.emulated.seen, name), getattr(self.real.seen, name)) for name in FIGURES}
        return {name: (mine, theirs, mine / theirs - 1.0) for name, (mine, theirs) in both.items()}

    def rows(self) -> list[str]:
        """Rows of a Markdown table."""
        lines = [
            f"| {self.case} | {name} | {1e3 * mine:.1f} ms | {1e3 * theirs:.1f} ms | {off:+.1%} |"
            for name, (mine, theirs, off) in self.figures().items()
        ]
        for name in COUNTERS:
            lines.append(f"| | {name} | {self.emulated.counter(name):.0f} | {self.real.counter(name):.0f} | |")
        return [
            *lines,
            f"| | requests, failed | {self.emulated.seen.requests}, {self.emulated.seen.failed} | "
            f"{self.real.seen.requests}, {self.real.seen.failed} | |",
            f"| | steps that ended late | {self.emulated.late_share:.1%} | {self.real.late_share:.1%} | |",
        ]

    @property
    def late(self) -> str:
        """A sentence with the share of late steps of both servers."""
        return (
            f"{self.emulated.late_share:.0%} of the emulated steps and {self.real.late_share:.0%} of vLLM's were late"
        )

    @property
    def kept_up(self) -> bool:
        """Whether both servers kept to the law; if not, the figures are not valid."""
        return max(self.emulated.late_share, self.real.late_share) <= LATE_SHARE_MAX


def arrivals(case: Case, *, seed: int = SEED) -> list[Arrival]:
    """The trace of a case; the same seed gives the same trace."""
    chance = np.random.default_rng(seed)
    count = chance.poisson(case.rate_rps * case.duration_s)
    times = np.sort(chance.uniform(0, case.duration_s, count))
    # Gamma of shape 4: coefficient of variation 0.5.
    prompts = np.maximum(1, chance.gamma(4, case.prompt_tokens / 4, count).round())
    outputs = np.maximum(2, chance.gamma(4, case.output_tokens / 4, count).round())
    return [
        Arrival(time_s=float(t), prompt_tokens=int(p), output_tokens=int(o))
        for t, p, o in zip(times, prompts, outputs, strict=True)
    ]


async def compare(name: str, factory: Factory) -> Comparison:
    """Run a case on both servers, one after the other, so that they do not compete for the cores."""
    case = CASES[name]
    async with _emulated(case) as url:
        emulated = await _run(case, url, lambda: _json(f"{url}/emulator"))
    server = await factory.start(Order(arguments=_arguments(case), law=LAW, port=free_ports(1)[0]))
    try:
        await server.ready()
        real = await _run(case, server.url, server.told)
    finally:
        server.kill()
        await server.exited
    return Comparison(case=name, emulated=emulated, real=real)


def _arguments(case: Case) -> list[str]:
    named = {argument.partition("=")[0] for argument in case.arguments}
    return [*SHARED, *case.arguments, *(a for a in DEFAULTS if a.partition("=")[0] not in named)]


@asynccontextmanager
async def _emulated(case: Case) -> AsyncIterator[str]:
    port = free_ports(1)[0]
    words = ["--model", MODEL, "--host", HOST, "--port", str(port), *_arguments(case)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidegate.sandbox.emulator", *words),
        env={**os.environ, LAW_VARIABLE: json.dumps(asdict(LAW))},
    )
    url = f"http://{HOST}:{port}"
    try:
        await _answers(f"{url}/health")
        yield url
    finally:
        process.kill()
        await process.wait()


async def _run(case: Case, url: str, lag: Callable[[], Awaitable[Mapping[str, float]]]) -> Run:
    """Replay the trace after a warm-up, because the first requests of a server are slow (lazy initialization)."""
    target = Target(url=url, model=MODEL)
    await replay(WARM_UP, target, seed=SEED + 1, ended=lambda _: None)
    before = await lag()
    outcomes: list[Outcome] = []
    await replay(arrivals(case), target, seed=SEED, ended=outcomes.append)
    await asyncio.sleep(SETTLE_S)
    after = await lag()
    async with aiohttp.ClientSession() as client, client.get(f"{url}/metrics") as answer:
        page = await answer.text()
    late = (after["steps_late"] - before["steps_late"]) / (after["steps"] - before["steps"])
    return Run(seen=summary(outcomes, SLO), late_share=late, page=page)


async def _json(url: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return dict(await answer.json())


async def _answers(url: str) -> None:
    for _ in range(600):
        try:
            async with aiohttp.ClientSession() as client, client.get(url):
                return
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
    raise SourceError(source="emulator", reason="NotReady", detail=f"{url} does not answer")


async def table(names: Sequence[str]) -> str:
    """
    The cases as a Markdown table.

    Raises:
        SourceError: vLLM is not installed.
    """
    environment = find_environment()
    if environment is None:
        raise SourceError(source="vllm", reason="NotInstalled", detail="make it with `tidegate sandbox vllm-env`")
    lines = ["| case | figure | emulated | vLLM | off by |", "|---|---|---|---|---|"]
    async with Factory(environment) as factory:
        for name in names:
            compared = await compare(name, factory)
            lines += compared.rows()
            print("\n".join(compared.rows()), file=sys.stderr, flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    print(asyncio.run(table(sys.argv[1:] or list(CASES))))
