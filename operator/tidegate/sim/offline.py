"""
A run from what a user has: manifests and recorded traffic.

In:    deployments and accelerators as the API gave them, a trace per deployment, how far the truth is off.
Out:   a `Scenario`, its first fleet sized for the first minutes of the traffic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec, Mode
from tidegate.errors import SpecError
from tidegate.sim.capacity import knee_rps
from tidegate.sim.scenario import Fault, Pool, Scenario, Service, Startup, TierTruth
from tidegate.sim.traces import Trace
from tidegate.sim.truth import Twist, truths_of

# The fleet at second 0 serves the mean rate of this much traffic.
FIRST_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    How a backtest is run.

    Args:
        seed: Everything that is chance comes from it.
        truth: Factor on every step time: 1.2 means the replicas are 20 % slower than the priors say.
        startup_s: Median time from scale-up to ready, s.
        duration_s: Cut the traffic here; None: all of it.
        faults: What goes wrong.
        random_router: Route at random instead of by least outstanding.
    """

    seed: int = 1
    truth: float = 1.0
    startup_s: float = 120.0
    duration_s: float | None = None
    faults: tuple[Fault, ...] = ()
    random_router: bool = False


def scenario_of(
    deployments: Mapping[Key, DeploymentSpec],
    accelerators: Mapping[str, Accelerator],
    traffic: Mapping[Key, Trace],
    settings: Settings,
) -> Scenario:
    """
    The run that a manifest and traces describe.

    Raises:
        SpecError: A deployment without traffic, traffic without a deployment, or a tier on an unknown accelerator.
    """
    _check(deployments, accelerators, traffic)
    services = tuple(_service(spec, traffic[key], accelerators, settings) for key, spec in deployments.items())
    span = max(t.span_s for t in traffic.values())
    return Scenario(
        name="+".join(str(k) for k in deployments),
        services=services,
        pools={name: Pool(accelerator=a) for name, a in accelerators.items()},
        duration_s=span if settings.duration_s is None else min(span, settings.duration_s),
        faults=settings.faults,
        seed=settings.seed,
        random_router=settings.random_router,
    )


def _check(
    deployments: Mapping[Key, DeploymentSpec], accelerators: Mapping[str, Accelerator], traffic: Mapping[Key, Trace]
) -> None:
    if not deployments:
        raise SpecError(field="-f", value="no InferenceDeployment", allowed="at least one")
    for key, spec in deployments.items():
        if key not in traffic:
            raise SpecError(field="--trace", value=None, allowed=f"a trace for {key}: --trace {key.name}=FILE")
        for tier in spec.tiers:
            if tier.accelerator not in accelerators:
                known = ", ".join(accelerators) or "none"
                field = f"{key}: spec.tiers[{tier.name}].accelerator"
                raise SpecError(
                    field=field, value=tier.accelerator, allowed=f"an AcceleratorClass of the file: {known}"
                )


def _service(
    spec: DeploymentSpec, trace: Trace, accelerators: Mapping[str, Accelerator], settings: Settings
) -> Service:
    twist = Twist(decode=settings.truth, prefill=settings.truth, startup=Startup(median_s=settings.startup_s))
    truths = truths_of(spec, accelerators, {"*": twist})
    # A backtest asks what a policy would have done, so a deployment that only recommends in the cluster acts here.
    acting = replace(spec, mode=Mode.AUTO)
    return Service(spec=acting, traffic=trace, truths=truths, initial=first_fleet(spec, trace, truths, accelerators))


def first_fleet(
    spec: DeploymentSpec,
    trace: Trace,
    truths: Mapping[str, TierTruth],
    accelerators: Mapping[str, Accelerator],
) -> dict[str, int]:
    """Replicas of the cheapest tier for the mean rate of the first minutes, inside the bounds."""
    rate = float(np.searchsorted(trace.arrival_s, FIRST_S)) / FIRST_S
    price = {t.name: accelerators[t.accelerator].price_usd_per_hour * t.accelerators_per_replica for t in spec.tiers}
    knees = {t.name: knee_rps(truths[t.name].server, trace, spec.slo) for t in spec.tiers}
    usable = [t for t in spec.tiers if t.quality >= spec.quality.minimum and knees[t.name] > 0]
    if not usable:
        return {spec.tiers[0].name: max(spec.replicas_min, 1)}
    best = min(usable, key=lambda t: price[t.name] / knees[t.name])
    most = min(spec.replicas_max, best.replicas_max)
    return {best.name: max(spec.replicas_min, min(most, ceil(rate / knees[best.name])))}
