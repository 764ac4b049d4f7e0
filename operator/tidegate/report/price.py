"""What runs costs, as the status and the metrics both state it."""

from collections.abc import Mapping

from tidegate.domain.observation import DeploymentObservation, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.units import MILLION, SECONDS_PER_HOUR


def price_per_hour(
    spec: DeploymentSpec, seen: DeploymentObservation | None, accelerators: Mapping[str, Accelerator]
) -> float | None:
    """
    Price per hour of the replicas that exist, those on their way in or out among them.

    An accelerator is paid for from the moment it is taken until its pod is gone; what is on no node holds none.

    Returns:
        In the currency of the classes; None where nothing was seen, or the price of what exists is not known.
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
    """Price of a million tokens; None where the price or the tokens are not known, or there are none."""
    if usd_per_hour is None or not tokens_per_s:
        return None
    return usd_per_hour / SECONDS_PER_HOUR / tokens_per_s * MILLION


def _held(state: TierState) -> int:
    return state.ready + state.on_the_way + state.terminating - state.unplaced
