"""
Policies by name: `NAME` or `NAME@TIER`; with `*` after the name (`slo-keda*@fp8`) its knob is tuned in hindsight.

If no tier is named, a rival runs once per tier and its best run counts, a choice that it could not have made in
advance. A rival that can scale several tiers also runs with all of them. With `*` it runs with every value of its knob.
"""

from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from typing import Any

from tidegate.errors import SpecError
from tidegate.sim.policies.aibrix import Apa, FixedApa
from tidegate.sim.policies.base import Policy
from tidegate.sim.policies.core import Tidegate
from tidegate.sim.policies.dynamo import Dynamo
from tidegate.sim.policies.hpa import HpaOnUtilization
from tidegate.sim.policies.keda import KedaOnWaiting, SloAwareKeda
from tidegate.sim.policies.knative import Kpa
from tidegate.sim.policies.llmd import KedaOnEpp, TokenAwareKeda
from tidegate.sim.policies.rayserve import RayServe
from tidegate.sim.policies.wva import Queueing, Saturation, Tokens
from tidegate.sim.scenario import Scenario

# Rivals that scale one tier. Called with the scenario and the tier's name. `KNOB`: parameter and values to tune.
RIVALS: dict[str, Any] = {
    "slo-keda": SloAwareKeda,
    "keda-epp": KedaOnEpp,
    "keda-waiting": KedaOnWaiting,
    "token-keda": TokenAwareKeda,
    "hpa-gpu": HpaOnUtilization,
    "knative-kpa": Kpa,
    "aibrix-apa": Apa,
    "aibrix-fixed": FixedApa,
    "ray-serve": RayServe,
    "dynamo": Dynamo,
}

# Rivals that can scale several tiers. Called with the scenario and the name of a tier, or None for all tiers.
FLEETS: dict[str, Any] = {"wva-v1": Saturation, "wva-v2": Tokens, "wva-qm": Queueing}

# Whole-fleet policies and bounds, made by `compare`.
OWN = "tidegate"
BOUNDS = ("clairvoyant", "static", "fluid")
TUNED = "*"


def names() -> list[str]:
    """All policy names, without tiers and without `*`."""
    return [OWN, *RIVALS, *FLEETS, *BOUNDS]


def makers(name: str, scenario: Scenario) -> Iterator[Callable[[], Policy]]:
    """
    Constructors of all policies that a name stands for, those with shipped settings first. Each policy has its full
    name.

    Raises:
        SpecError: There is no such policy, or no such tier.
    """
    head, _, tier = name.partition("@")
    base, tuned = head.removesuffix(TUNED), head.endswith(TUNED)
    known = list(dict.fromkeys(t.name for s in scenario.services for t in s.spec.tiers))
    if tier and tier not in known:
        raise SpecError(field="--policy", value=name, allowed=f"must name a tier of the deployment: {', '.join(known)}")
    if base == OWN and not tuned:
        yield partial(Tidegate, tier or None)
    elif base in RIVALS or base in FLEETS:
        policy = {**RIVALS, **FLEETS}[base]
        # A rival that can scale all tiers may do better with a single one.
        tiers = [tier] if tier else [*([None] if base in FLEETS else []), *known]
        for setting in settings(policy, tuned=tuned):
            for each in tiers:
                label = head if each is None else f"{head}@{each}"
                yield partial(_made, partial(policy, scenario, each, **setting), label, setting)
    else:
        raise SpecError(field="--policy", value=name, allowed=f"must be one of {', '.join(names())}")


def settings(policy: Any, *, tuned: bool) -> Iterator[dict[str, Any]]:
    """Arguments of a rival's runs: as shipped (each value of `SHIPPED`, if any), then with the knob's values."""
    parameter, values = getattr(policy, "SHIPPED", ("", ()))
    shipped: list[dict[str, Any]] = [{parameter: v} for v in values] or [{}]
    yield from shipped
    if tuned:
        knob, values = policy.KNOB
        usual = signature(policy).parameters[knob].default
        yield from ({**each, knob: v} for each in shipped for v in values if v != usual)


def _made(make: Callable[[], Policy], name: str, setting: dict[str, Any]) -> Policy:
    policy = make()
    policy.name = " ".join([name, *(f"{k}={v:g}" for k, v in setting.items())])
    return policy


def check(chosen: list[str], scenario: Scenario) -> None:
    """
    Check that all names can run in this scenario.

    Raises:
        SpecError: One of them cannot.
    """
    for name in chosen:
        if name not in (*BOUNDS, "static" + TUNED):
            list(makers(name, scenario))
