"""From problems to decisions."""

from collections.abc import Mapping, Sequence
from math import ceil

from tidegate.domain.decision import Decision, Prediction, Reason, TierDecision
from tidegate.domain.key import Key
from tidegate.domain.observation import TierReading
from tidegate.domain.spec import Accelerator, TierSpec
from tidegate.plan.memory import PlanMemory
from tidegate.plan.problem import Problem


def choose(
    problems: Sequence[Problem], *, accelerators: Mapping[str, Accelerator], time_s: float
) -> Mapping[Key, tuple[PlanMemory, Decision]]:
    """Decide for every problem."""
    return {problem.spec.key: _single(problem, accelerators) for problem in problems}


def _single(problem: Problem, accelerators: Mapping[str, Accelerator]) -> tuple[PlanMemory, Decision]:
    spec = problem.spec
    before = problem.memory.target if problem.memory else {}
    silent = any(s.ready and not isinstance(s.reading, TierReading) for s in problem.states.values())
    demand = problem.forecast.horizons[-1].quantile(0.95)

    def price(tier: TierSpec) -> float:
        return accelerators[tier.accelerator].price_usd_per_hour * tier.accelerators_per_replica

    def count(tier: TierSpec) -> int:
        capacity = problem.estimates[tier.name].capacity_rps
        wanted = ceil(demand / capacity) if capacity > 0 else tier.replicas_max
        return min(max(wanted, spec.replicas_min, tier.replicas_min), spec.replicas_max, tier.replicas_max)

    usable = [t for t in spec.tiers if t.quality >= spec.quality.minimum and t.name in problem.estimates]
    best = min(usable, key=lambda t: count(t) * price(t))
    target = {t.name: (count(t) if t is best else 0) for t in spec.tiers}
    if silent:
        target = {name: max(n, before.get(name, 0)) for name, n in target.items()}
    cost = sum(price(t) * target[t.name] for t in spec.tiers)
    decision = Decision(
        key=spec.key,
        tiers={
            t.name: TierDecision(
                replicas=target[t.name],
                capacity_rps=problem.estimates[t.name].capacity_rps if t.name in problem.estimates else None,
            )
            for t in spec.tiers
        },
        reason=Reason.METRICS_MISSING if silent else Reason.STEADY,
        message=f"forecast {demand:.1f} req/s: ${cost:.2f}/h",
        forecast_rps=demand,
        horizon_s=problem.forecast.horizons[-1].horizon_s,
        prediction=Prediction(
            attainment=None, ttft_s_p95=None, itl_s_p95=None, usd_per_hour=cost, usd_per_million_output_tokens=None
        ),
    )
    return PlanMemory(target=target), decision
