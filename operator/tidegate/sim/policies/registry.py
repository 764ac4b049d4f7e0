"""
Policies by name: `NAME` or `NAME@TIER`.

A rival without a tier runs once on every tier, and the best of its runs stands for it: hindsight it would not have.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tidegate.errors import SpecError
from tidegate.sim.policies.base import Policy
from tidegate.sim.policies.core import Tidegate
from tidegate.sim.policies.hpa import HpaOnUtilization
from tidegate.sim.policies.keda import KedaOnWaiting, SloAwareKeda
from tidegate.sim.scenario import Scenario

Make = Callable[[Scenario, str], Policy]

# One tier each; the maker takes the scenario and the tier's name.
RIVALS: dict[str, Make] = {
    "hpa-gpu": HpaOnUtilization,
    "keda-waiting": KedaOnWaiting,
    "slo-keda": SloAwareKeda,
}

# Whole-fleet policies and bounds, made by `compare`.
OWN = "tidegate"
BOUNDS = ("clairvoyant", "static", "fluid")


def names() -> list[str]:
    """Every policy name without tiers."""
    return [OWN, *RIVALS, *BOUNDS]


def makers(name: str, scenario: Scenario) -> Iterator[Callable[[], Policy]]:
    """
    Makers of the runs that stand for a policy name: one per tier for a rival without a tier.

    Raises:
        SpecError: No such policy, or no such tier.
    """
    base, _, tier = name.partition("@")
    known = list(dict.fromkeys(t.name for s in scenario.services for t in s.spec.tiers))
    if tier and tier not in known:
        raise SpecError(field="--policy", value=name, allowed=f"a tier of the deployment: {', '.join(known)}")
    if base == OWN:
        yield partial(Tidegate, tier or None)
    elif base in RIVALS:
        for each in [tier] if tier else known:
            yield partial(RIVALS[base], scenario, each)
    else:
        raise SpecError(field="--policy", value=name, allowed=f"one of {', '.join(names())}")


def check(chosen: list[str], scenario: Scenario) -> None:
    """A SpecError for the first name that cannot run on this scenario; before anything runs."""
    for name in chosen:
        if name not in BOUNDS:
            list(makers(name, scenario))
