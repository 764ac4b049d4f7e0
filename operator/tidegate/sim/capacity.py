"""
The true capacity of a replica, found by simulation: its knee, which the clairvoyant knows.

In:    the true performance of a tier, the traffic (for request lengths), the targets.
Out:   the highest rate, requests/s, at which the target share of requests meets both targets.
"""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.law import Workload
from tidegate.domain.spec import Slo
from tidegate.sim.engine.fleet import Fleet, Server
from tidegate.sim.traces import Trace

# Requests of a short and of a long trial: the short one decides if the rate is far from the knee.
# Over twelve tiers of the suite with four seeds each, the standard deviation of the knee is 0.6 to 3.2 % (5 % for long
# answers), the largest deviation from the mean 7 %. With 1,500 requests it is 10 to 40 %, because late requests
# cluster.
REQUESTS = (3_000, 15_000)
BATCHES = 20
SURE = 3.0  # standard errors between attainment and target from which on the short trial decides
HALVINGS = 7
FEW_TOKENS = 16.0  # with shorter mean answers, the mean inter-token latency is not meaningful
WARM = 400  # first requests of a trial that are ignored, per replica: the replica is still filling


def workload_of(trace: Trace) -> Workload:
    """Means and coefficients of variation of a trace's requests."""
    prompt, output = trace.prompt_tokens.astype(float), trace.output_tokens.astype(float)
    return Workload(
        prompt_tokens=float(prompt.mean()),
        output_tokens=float(output.mean()),
        prefix_hit=float(trace.hit_tokens.sum() / prompt.sum()),
        prompt_variation=float(prompt.std() / prompt.mean()),
        output_variation=float(output.std() / output.mean()),
    )


def knee_rps(server: Server, trace: Trace, slo: Slo, *, seed: int = 0, replicas: int = 1) -> float:
    """
    Highest Poisson arrival rate per replica with the target attainment, requests/s; 0 if even an idle replica misses
    it.

    All trials use the same random numbers: at a lower rate the same requests arrive further apart.

    Args:
        trace: Its request lengths are drawn at random.
        replicas: Size of the fleet, behind a router that picks the replica with the fewest requests.
    """
    lengths = b"".join(c.tobytes() for c in (trace.prompt_tokens, trace.output_tokens, trace.hit_tokens))
    known = (server, slo, (seed, replicas), blake2b(lengths).digest())
    if known not in _KNEES:
        _KNEES[known] = _bisected(server, trace, slo, seed, replicas)
    return _KNEES[known]


# Cache: a knee takes a second or two to find, and one process needs the same ones repeatedly.
_KNEES: dict[tuple[Server, Slo, tuple[int, int], bytes], float] = {}


def _bisected(server: Server, trace: Trace, slo: Slo, seed: int, replicas: int) -> float:
    low, high = 0.0, fluid_rps(server, trace, slo)
    for _ in range(HALVINGS if high > 0 else 0):
        middle = (low + high) / 2
        if holds(server, trace, slo, rps=middle, seed=seed, replicas=replicas):
            low = middle
        else:
            high = middle
    return low


def holds(server: Server, trace: Trace, slo: Slo, *, rps: float, seed: int, replicas: int = 1) -> bool:
    """Whether a fleet reaches the target attainment at `rps` per replica; a long trial if the short one is unclear."""
    share = 0.0
    for count in REQUESTS:
        load = _load(trace, rps=rps * replicas, count=count * replicas, seed=seed)
        met = inside(server, load, slo, replicas=replicas)
        share = float(met.mean())
        # Late requests cluster, so the standard error is estimated from batches, not from single requests.
        error = np.std([b.mean() for b in np.array_split(met, BATCHES)]) / np.sqrt(BATCHES - 1)
        if abs(share - slo.attainment) > SURE * error:
            break
    return share >= slo.attainment


def fluid_rps(server: Server, trace: Trace, slo: Slo) -> float:
    """
    Highest rate, requests/s, at which the mean inter-token latency meets the target; an upper bound of the knee.

    It ignores queueing and variability: N* from the law at the target, then Little's law. Answers shorter than
    `FEW_TOKENS` mostly decode undisturbed by prompts, whatever the mean says: for them it is the rate at which the
    replica is busy all the time.
    """
    law, workload = server.law, workload_of(trace)
    if workload.output_tokens < FEW_TOKENS:
        decode_s = workload.output_tokens * (law.b_s + law.c_s * workload.context_tokens)
        return 1.0 / (law.p1_s * workload.prefill_tokens + decode_s)
    slope = law.itl_slope_s(workload)
    most = min((slo.itl_s - law.a_s) / slope, law.running_limit(workload))
    if most < 1:
        return 0.0
    return most / (law.itl_s(most, workload) * workload.output_tokens)


def _load(trace: Trace, *, rps: float, count: int, seed: int) -> Trace:
    """Poisson arrivals of requests with lengths drawn from the trace."""
    # Separate random streams for lengths and gaps, so that a longer trial begins with the requests of the shorter one.
    picks, gaps = (np.random.default_rng((seed, stream)) for stream in range(2))
    rows = picks.integers(0, len(trace), count)
    return Trace(
        arrival_s=np.cumsum(gaps.exponential(1.0 / rps, count)),
        prompt_tokens=trace.prompt_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        hit_tokens=trace.hit_tokens[rows],
    )


def inside(server: Server, load: Trace, slo: Slo, *, replicas: int) -> NDArray[np.bool_]:
    """Which requests meet both targets, without the first `WARM` per replica."""
    fleet = Fleet([load], [server], ttft_edges=[slo.ttft_s], gap_edges=[slo.itl_s], slots=replicas)
    for _ in range(replicas):
        fleet.open(deployment=0, tier=0)
    fleet.advance(float(load.arrival_s[-1]) + 3600.0)
    requests = fleet.state.requests
    itl = (requests.finish_s - requests.first_s) / np.maximum(requests.output - 1, 1)
    met: NDArray[np.bool_] = (requests.first_s - requests.arrival_s <= slo.ttft_s) & (itl <= slo.itl_s)
    return met[WARM * replicas :]
