"""
What one replica of a tier truly carries, found by running it: the knee a clairvoyant knows.

In:    a tier's truth, request lengths of the traffic in question, the targets.
Out:   requests/s at which the target share of requests is still inside both targets.
"""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.law import Workload
from tidegate.domain.spec import Slo
from tidegate.sim.engine.fleet import Fleet, Server
from tidegate.sim.traces import Trace

# Requests of a trial: a rate far from the knee is told by the first few thousand, one close to it takes them all.
# Twelve tiers of the suite, four seeds each: knees differ with a standard deviation of 0.6 to 3.2 % (5 % for long
# answers), at most 7 % from their mean. With 1,500 requests it was 10 to 40 %: late requests come in clumps.
REQUESTS = (3_000, 15_000)
BATCHES = 20
SURE = 3.0  # standard errors between a trial's share and the target at which a shorter trial is believed
HALVINGS = 7
FEW_TOKENS = 16.0  # mean answers shorter than this have too few gaps for their mean to say anything
WARM = 400  # first requests of a trial, served by a replica that is still filling


def workload_of(trace: Trace) -> Workload:
    """Mean request of a trace."""
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
    Highest Poisson rate per replica with the target attainment; 0 where even an idle one misses.

    All trials share their random numbers: a lower rate is the same requests further apart.

    Args:
        trace: Source of request lengths, drawn at random.
        replicas: In a fleet of so many behind a router that takes the one with the fewest requests.
    """
    lengths = b"".join(c.tobytes() for c in (trace.prompt_tokens, trace.output_tokens, trace.hit_tokens))
    known = (server, slo, (seed, replicas), blake2b(lengths).digest())
    if known not in _KNEES:
        _KNEES[known] = _bisected(server, trace, slo, seed, replicas)
    return _KNEES[known]


# A knee takes a second or two to find, and one process asks for the same ones again and again.
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
    """Whether each replica keeps the target share at that rate; trials grow until the answer is sure."""
    share = 0.0
    for count in REQUESTS:
        load = _load(trace, rps=rps * replicas, count=count * replicas, seed=seed)
        met = inside(server, load, slo, replicas=replicas)
        share = float(met.mean())
        # Late requests come together, so the error is taken over stretches of the trial, not over requests.
        error = np.std([b.mean() for b in np.array_split(met, BATCHES)]) / np.sqrt(BATCHES - 1)
        if abs(share - slo.attainment) > SURE * error:
            break
    return share >= slo.attainment


def fluid_rps(server: Server, trace: Trace, slo: Slo) -> float:
    """
    Rate that no replica can exceed with its mean inter-token latency inside the target; an upper bound of the knee.

    It knows no queue and no chance: N* from the law at the target, Little's law for the rate. Of few gaps most see no
    prompt, whatever their mean is: there it is the rate at which the replica has no time left.
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
    """Poisson arrivals of requests as long as those of the trace."""
    # One stream each for lengths and gaps: a longer trial begins with the requests of the shorter one.
    picks, gaps = (np.random.default_rng((seed, stream)) for stream in range(2))
    rows = picks.integers(0, len(trace), count)
    return Trace(
        arrival_s=np.cumsum(gaps.exponential(1.0 / rps, count)),
        prompt_tokens=trace.prompt_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        hit_tokens=trace.hit_tokens[rows],
    )


def inside(server: Server, load: Trace, slo: Slo, *, replicas: int) -> NDArray[np.bool_]:
    """Which requests meet both targets on so many replicas, the first ones left out."""
    fleet = Fleet([load], [server], ttft_edges=[slo.ttft_s], gap_edges=[slo.itl_s], slots=replicas)
    for _ in range(replicas):
        fleet.open(deployment=0, tier=0)
    fleet.advance(float(load.arrival_s[-1]) + 3600.0)
    requests = fleet.state.requests
    itl = (requests.finish_s - requests.first_s) / np.maximum(requests.output - 1, 1)
    met: NDArray[np.bool_] = (requests.first_s - requests.arrival_s <= slo.ttft_s) & (itl <= slo.itl_s)
    return met[WARM * replicas :]
