"""
A scenario from a user's manifests and traffic.

In:    deployments and accelerators as read from manifests, a trace per deployment, and `Settings`.
Out:   a `Scenario` whose initial fleet is sized for the first minutes of the traffic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import SpecError
from tidegate.estimate.priors import prior_of
from tidegate.sim.capacity import knee_rps
from tidegate.sim.limits import in_force, inside
from tidegate.sim.scenario import START_S, Pool, Scenario, Service, Startup, TierTruth
from tidegate.sim.traces import Trace
from tidegate.sim.truth import Twist, truths_of
from tidegate.units import SECONDS_PER_HOUR, TICK_S

# The initial fleet is sized for the mean rate over this time, or over the whole run if that is shorter.
FIRST_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    How a backtest is run.

    Args:
        seed: Determines everything random.
        truth: Factor on every step time: 1.2 means that replicas are 20 % slower than the priors say.
        startup_s: Median time from getting a node to a ready replica, s.
        duration_s: Where to cut the traffic; None: use all of it.
    """

    seed: int = 1
    truth: float = 1.0
    startup_s: float = 120.0
    duration_s: float | None = None


def scenario_of(
    deployments: Mapping[Key, DeploymentSpec],
    accelerators: Mapping[str, Accelerator],
    traffic: Mapping[Key, Trace],
    settings: Settings,
) -> Scenario:
    """
    The scenario that manifests and traces describe.

    Raises:
        SpecError: A deployment has no traffic, the first request comes after `duration_s`, a tier uses an unknown
            accelerator or several engines per replica, or the classes have different currencies.
    """
    _check(deployments, accelerators, traffic)
    duration_s = _duration_s(traffic, settings)
    services = tuple(
        _service(spec, _cut(traffic[key], duration_s), accelerators, settings, duration_s)
        for key, spec in deployments.items()
    )
    return Scenario(
        name="+".join(str(k) for k in deployments),
        services=services,
        pools={name: Pool(accelerator=a) for name, a in accelerators.items()},
        duration_s=duration_s,
        seed=settings.seed,
    )


def _duration_s(traffic: Mapping[Key, Trace], settings: Settings) -> float:
    """Length of the run: until the first tick after the last arrival, or as stated if that is shorter."""
    whole_s = (floor(max(t.span_s for t in traffic.values()) / TICK_S) + 1) * TICK_S
    if settings.duration_s is None:
        return whole_s
    first_s = min(float(t.arrival_s[0]) for t in traffic.values())
    if first_s >= settings.duration_s:
        hours, allowed = (
            settings.duration_s / SECONDS_PER_HOUR,
            f"must be more: the first request arrives after {first_s:.0f} s",
        )
        raise SpecError(field="--hours", value=f"{hours:g}", allowed=allowed)
    return min(whole_s, settings.duration_s)


def _cut(trace: Trace, duration_s: float) -> Trace:
    """The requests within the run; all of them if there are none, so that the lengths of requests are known."""
    within = trace.window(start_s=0.0, end_s=duration_s)
    return within if len(within) else trace


def _check(
    deployments: Mapping[Key, DeploymentSpec], accelerators: Mapping[str, Accelerator], traffic: Mapping[Key, Trace]
) -> None:
    if not deployments:
        raise SpecError(field="-f", value=None, allowed="must contain an InferenceDeployment")
    for key, spec in deployments.items():
        if key not in traffic:
            raise SpecError(field="--trace", value=None, allowed=f"every deployment needs a trace: --trace {key}=FILE")
        if len(traffic[key]) == 0:
            raise SpecError(
                field="--trace", value=traffic[key].name, allowed=f"must have at least one request for {key}"
            )
        for tier in spec.tiers:
            if tier.accelerator not in accelerators:
                known = ", ".join(accelerators) or "none"
                field = f"{key}: spec.tiers[{tier.name}].accelerator"
                raise SpecError(
                    field=field,
                    value=tier.accelerator,
                    allowed=f"must be an AcceleratorClass in the manifests: {known}",
                )
            engines = prior_of(spec.model, tier, accelerators[tier.accelerator]).serving.data_parallel
            if engines > 1:
                field = f"{key}: spec.tiers[{tier.name}] --data-parallel-size"
                raise SpecError(field=field, value=engines, allowed="must be 1: a simulated replica is one engine")
    codes = sorted({accelerators[tier.accelerator].currency for spec in deployments.values() for tier in spec.tiers})
    if len(codes) > 1:
        allowed = "must be one currency for all tiers: amounts are never converted"
        raise SpecError(field="spec.currency of the AcceleratorClasses", value=", ".join(codes), allowed=allowed)


def _service(
    spec: DeploymentSpec,
    trace: Trace,
    accelerators: Mapping[str, Accelerator],
    settings: Settings,
    duration_s: float,
) -> Service:
    twist = Twist(decode=settings.truth, prefill=settings.truth, startup=Startup(median_s=settings.startup_s))
    truths = truths_of(spec, accelerators, {"*": twist})
    # The question is what a policy would have done, so deployments in mode Recommend, and paused ones, act here.
    initial = first_fleet(spec, trace, truths, accelerators, first_s=min(FIRST_S, duration_s))
    return Service(spec=spec.acting(), traffic=trace, truths=truths, initial=initial)


def first_fleet(
    spec: DeploymentSpec,
    trace: Trace,
    truths: Mapping[str, TierTruth],
    accelerators: Mapping[str, Accelerator],
    *,
    first_s: float,
) -> dict[str, int]:
    """Replicas of the cheapest tier for the mean rate of the first `first_s`, adjusted to the bounds in force."""
    rate = float(np.searchsorted(trace.arrival_s, first_s)) / first_s
    price = {t.name: accelerators[t.accelerator].price_usd_per_hour * t.accelerators_per_replica for t in spec.tiers}
    knees = {t.name: knee_rps(truths[t.name].server, trace, spec.slo) for t in spec.tiers}
    usable = [t.name for t in spec.tiers if t.quality >= spec.quality.minimum and knees[t.name] > 0]
    order = sorted(usable, key=lambda name: price[name] / knees[name])
    wish = {name: ceil(rate / knees[name]) for name in order[:1]} or {spec.tiers[0].name: 1}
    limits, rest = in_force(spec, START_S), [t.name for t in spec.tiers if t.name not in usable]
    fleet = inside(limits, wish, order=[*order, *rest], least=limits.low if rate > 0 else limits.idle)
    return {name: count for name, count in fleet.items() if count > 0}
