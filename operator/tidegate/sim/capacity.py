"""
What one replica of a tier truly carries, found by running it: the knee a clairvoyant knows.

In:    a tier's truth, request lengths of the traffic in question, the targets.
Out:   requests/s at which the target share of requests is still inside both targets.
"""

import numpy as np

from tidegate.domain.law import Workload
from tidegate.domain.spec import Slo
from tidegate.sim.engine.fleet import Fleet, Server
from tidegate.sim.traces import Trace

REQUESTS = 1500  # enough for a 99 % share to be known to about a third of a percent
HALVINGS = 8


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


def knee_rps(server: Server, trace: Trace, slo: Slo, *, seed: int = 0) -> float:
    """
    Highest Poisson rate one replica holds with the target attainment, within 1 %; 0 where even an idle one misses.

    Args:
        trace: Source of request lengths, drawn at random.
    """
    high = fluid_rps(server, trace, slo)
    if high <= 0:
        return 0.0
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if attained(server, trace, slo, rps=middle, seed=seed) >= slo.attainment:
            low = middle
        else:
            high = middle
    return low


def fluid_rps(server: Server, trace: Trace, slo: Slo) -> float:
    """
    Rate that no replica can exceed with its mean inter-token latency inside the target; an upper bound of the knee.

    It knows no queue and no chance: N* from the law at the target, Little's law for the rate.
    """
    law, workload = server.law, workload_of(trace)
    slope = law.itl_slope_s(workload)
    most = min((slo.itl_s - law.a_s) / slope, law.running_limit(workload))
    if most < 1:
        return 0.0
    return most / (law.itl_s(most, workload) * workload.output_tokens)


def attained(server: Server, trace: Trace, slo: Slo, *, rps: float, seed: int) -> float:
    """Share of requests inside both targets on one replica at a Poisson rate, the first tenth left out."""
    dice = np.random.default_rng(seed)
    rows = dice.integers(0, len(trace), REQUESTS)
    arrival = np.cumsum(dice.exponential(1.0 / rps, REQUESTS))
    load = Trace(
        arrival_s=arrival,
        prompt_tokens=trace.prompt_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        hit_tokens=trace.hit_tokens[rows],
    )
    fleet = Fleet([load], [server], ttft_edges=[slo.ttft_s], gap_edges=[slo.itl_s], slots=1)
    fleet.open(deployment=0, tier=0)
    fleet.advance(float(arrival[-1]) + 3600.0)
    requests = fleet.state.requests
    gaps = (requests.finish_s - requests.first_s) / np.maximum(requests.output - 1, 1)
    met = (requests.first_s - requests.arrival_s <= slo.ttft_s) & (gaps <= slo.itl_s)
    return float(met[REQUESTS // 10 :].mean())
