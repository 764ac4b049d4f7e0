"""
The price of what runs, for both status and metrics.
"""

from collections.abc import Mapping

from tidegate.domain.observation import DeploymentObservation, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.units import MILLION, SECONDS_PER_HOUR


def price_per_hour(
    spec: DeploymentSpec, seen: DeploymentObservation | None, accelerators: Mapping[str, Accelerator]
) -> float | None:
    """
    Price per hour of the existing replicas, including starting and terminating ones.

    An accelerator is paid for from the moment it is taken until its pod is gone. Replicas that are on no node hold
    none.

    Returns:
        In the currency of the classes; None if nothing was observed, or a price is unknown.
    """
    if seen is None:
        return None
    total = 0.0
    for tier in spec.tiers:
        state, accelerator = seen.tiers.get(tier.name), accelerators.get(tier.accelerator)
        held = _held(state) if state is not None else 0
        if held and accelerator is None:
            return None
        if accelerator is not None:
            total += held * tier.accelerators_per_replica * accelerator.price_usd_per_hour
    return total


def price_per_million(usd_per_hour: float | None, tokens_per_s: float | None) -> float | None:
    """Price of a million tokens; None if the price or the tokens are unknown, or there are none."""
    if usd_per_hour is None or not tokens_per_s:
        return None
    return usd_per_hour / SECONDS_PER_HOUR / tokens_per_s * MILLION


def _held(state: TierState) -> int:
    return state.ready + state.on_the_way + state.terminating - state.unplaced
