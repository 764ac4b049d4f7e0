"""
One tick of the core: learn, forecast, plan. The only place that orders the stages.

In:    what is remembered, what was observed, what users want.
Out:   what is remembered next, and what to do.
Rules: pure and synchronous; time is `observation.time_s`. Operator, plan, backtest and tests all use it.
"""

from collections.abc import Mapping

from tidegate import estimate, forecast, plan
from tidegate.domain.decision import Decision, FleetDecision
from tidegate.domain.holdings import left_by
from tidegate.domain.key import Key
from tidegate.domain.law import Workload
from tidegate.domain.observation import FleetObservation
from tidegate.domain.spec import FleetPolicy
from tidegate.errors import FAULTS
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.units import TICK_S

# The forecast's quantiles cover swings of the load from minute to minute; a replica's curve covers only what is left
# within a minute. Without this limit the same bursts would be paid for twice.
BURSTINESS_MAX = 3.0
# Lengths are observed as means over a window. A variation above that of single requests is drift of the mean.
VARIATION_MAX = 1.0
NOTHING = DeploymentMemory()


def step(memory: FleetMemory, observation: FleetObservation, policy: FleetPolicy) -> tuple[FleetMemory, FleetDecision]:
    """
    Decide for every deployment of the policy that was observed.

    Args:
        memory: Result of the last step, or `FleetMemory()`.
        observation: The fleet at one instant, later than the last one.
        policy: What users want now. A deployment in it that was not observed keeps its memory and gets no decision; one
            that is no longer in it is forgotten.

    Returns:
        The next memory, and one decision per observed deployment. If the core fails on a deployment, its decision has
        `error` set, and the others are planned with the accelerators it does not hold.
    """
    remembered: dict[Key, DeploymentMemory] = {}
    problems: list[plan.Problem] = []
    failures: dict[Key, Decision] = {}
    for key in policy.deployments:
        before = memory.deployments.get(key, NOTHING)
        remembered[key] = before
        if key not in observation.deployments:
            continue
        try:
            remembered[key], problem = _prepare(key, before, observation, policy)
        except FAULTS as fault:
            failures[key] = Decision.fault(key, fault)
        else:
            problems.append(problem)
    alone = [(policy.deployments[key], observation.deployments[key]) for key in failures]
    free = left_by(alone, policy.accelerators)
    outcome = plan.choose(problems, accelerators=free, time_s=observation.time_s)
    decisions: dict[Key, Decision] = dict(failures)
    for key, (plan_memory, decision) in outcome.items():
        learned = remembered[key]
        remembered[key] = DeploymentMemory(estimate=learned.estimate, forecast=learned.forecast, plan=plan_memory)
        decisions[key] = decision
    return FleetMemory(deployments=remembered), FleetDecision(time_s=observation.time_s, deployments=decisions)


def _prepare(
    key: Key, before: DeploymentMemory, observation: FleetObservation, policy: FleetPolicy
) -> tuple[DeploymentMemory, plan.Problem]:
    """Learn from what was observed of one deployment, and state the problem that `plan` has to solve for it."""
    spec, seen = policy.deployments[key], observation.deployments[key]
    demand = forecast.observe(before.forecast, observation=seen, time_s=observation.time_s)
    prompt_variation, output_variation = [min(v, VARIATION_MAX) for v in forecast.variations(demand)]
    learned = estimate.learn(
        before.estimate,
        spec=spec,
        accelerators=policy.accelerators,
        observation=seen,
        time_s=observation.time_s,
        variations=(prompt_variation, output_variation),
    )
    startups = estimate.startup_times(learned, spec=spec)
    expected = forecast.predict(demand, horizons_s=_horizons(startups), time_s=observation.time_s)
    workload = Workload(
        prompt_tokens=expected.prompt_tokens,
        output_tokens=expected.output_tokens,
        prompt_variation=prompt_variation,
        output_variation=output_variation,
    )
    learned = estimate.expect(learned, workload=workload, burstiness=min(expected.burstiness, BURSTINESS_MAX))
    estimates = estimate.assess(learned, spec=spec, accelerators=policy.accelerators)
    problem = plan.Problem(
        spec=spec,
        states=seen.tiers,
        estimates=estimates,
        forecast=expected,
        gateway=seen.gateway,
        memory=before.plan,
    )
    return DeploymentMemory(estimate=learned, forecast=demand, plan=before.plan), problem


def _horizons(startups_s: Mapping[str, float]) -> tuple[float, ...]:
    """One tick ahead, and the lead time of each tier: its start-up plus one tick."""
    return tuple(sorted({TICK_S, *(round(s + TICK_S) for s in startups_s.values())}))
