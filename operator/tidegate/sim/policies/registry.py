"""
Policies by name: `NAME`, `NAME@TIER`, and either with `*` behind the name (`slo-keda*@fp8`): knob tuned in hindsight.

A rival runs once on every tier where none is named, and the best of its runs stands for it: hindsight it would not
have. One that can steer several runs with all of them too. With `*` it runs for every value of its knob besides.
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

# One tier each; the maker takes the scenario and the tier's name. `KNOB` of each: parameter and values for hindsight.
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

# Rivals that steer every tier, or the one they are told of; the maker takes the scenario and None or its name.
FLEETS: dict[str, Any] = {"wva-v1": Saturation, "wva-v2": Tokens, "wva-qm": Queueing}

# Whole-fleet policies and bounds, made by `compare`.
OWN = "tidegate"
BOUNDS = ("clairvoyant", "static", "fluid")
TUNED = "*"


def names() -> list[str]:
    """Every policy name, without tiers and without tuning."""
    return [OWN, *RIVALS, *FLEETS, *BOUNDS]


def makers(name: str, scenario: Scenario) -> Iterator[Callable[[], Policy]]:
    """
    Makers of the runs that stand for a policy name, those as shipped first; each policy bears its own full name.

    Raises:
        SpecError: No such policy, or no such tier.
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
        # Who is told of every tier may do better with one: also a choice of whoever sets it up.
        tiers = [tier] if tier else [*([None] if base in FLEETS else []), *known]
        for setting in settings(policy, tuned=tuned):
            for each in tiers:
                label = head if each is None else f"{head}@{each}"
                yield partial(_made, partial(policy, scenario, each, **setting), label, setting)
    else:
        raise SpecError(field="--policy", value=name, allowed=f"must be one of {', '.join(names())}")


def settings(policy: Any, *, tuned: bool) -> Iterator[dict[str, Any]]:
    """Arguments of the runs of a rival: as shipped (`SHIPPED` where its source ships several), times the knob's."""
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
    """A SpecError for the first name that cannot run on this scenario; before anything runs."""
    for name in chosen:
        if name not in (*BOUNDS, "static" + TUNED):
            list(makers(name, scenario))
