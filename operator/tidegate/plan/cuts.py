"""
What is asked of a fleet, and the linear inequalities that every fleet fulfils that does it.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from tidegate.plan.fleet import RATE_DUST, Fleet, FleetModel, Floats, Ints
from tidegate.plan.scenario import Scenarios

Cuts = tuple[Floats, Floats]  # weights and needs of linear inequalities; shapes (cuts, tiers), (cuts,)

DUST = 1e-9  # of float arithmetic on shares and dollars
NEVER = 1e15  # $/h of what no replica can carry
# Multipliers m of the bound: 0 bounds by raw throughput, large ones by throughput at the target alone.
MULTIPLIERS = np.array([0.0, 3.0, 10.0, 30.0, 100.0])
# Targets near the overload floor say nothing: a fleet past its curve reaches them.
OVERLOAD_MARGIN = 0.05
CUTS_MAX = 6  # of all bounds the strongest few are enough to prune


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """
    What is asked of a fleet.

    Args:
        demand: What comes.
        attainment: Share of requests that must meet both targets.
        quality: Traffic-weighted mean quality that must be kept.
        current: Fleet that moves are counted from.
        grow_usd, shrink_usd: What one replica more or fewer costs on the way, as $/h over the plan's life; shape
            (tiers,). `shrink_usd` is below the price, so that fewer replicas never cost more.
    """

    demand: Scenarios
    attainment: float
    quality: float
    current: Fleet
    grow_usd: Floats
    shrink_usd: Floats

    def objective(self, model: FleetModel, fleets: Ints) -> Floats:
        """$/h of many fleets, moves included; shape (fleets,)."""
        change = fleets - np.array(self.current)
        moves = np.maximum(change, 0) @ self.grow_usd + np.maximum(-change, 0) @ self.shrink_usd
        total: Floats = fleets @ model.costs + moves
        return total


def no_cuts(model: FleetModel) -> Cuts:
    """What every fleet fulfils."""
    return np.zeros((0, len(model.tiers))), np.zeros(0)


def cuts_of(model: FleetModel, goal: Goal) -> Cuts:
    """
    Inequalities weights @ n >= needs that every fleet that meets the goal fulfils.

    Attainment never rises with load, so missing it at one scenario means missing it at all above: what may be
    lost in all, (1 - target), bounds what may be lost at each scenario from its share of requests upward.
    """
    rates, targets, upward = [], [], 0.0
    for rate, share in reversed(list(zip(goal.demand.rates_rps, goal.demand.shares, strict=True))):
        upward += share
        target = 1.0 - (1.0 - goal.attainment) / upward if upward > 0 else 0.0
        if rate > RATE_DUST and target > 2 * OVERLOAD_MARGIN:
            rates.append(rate)
            targets.append(target)
    if not rates:
        return no_cuts(model)
    slack = model.goods[-1] - np.array(targets)[:, None, None, None] * model.rates
    value = model.rates + MULTIPLIERS[:, None, None] * slack  # (scenarios, multipliers, tiers, points)
    lines = np.maximum(value.max(axis=3), 0.0).reshape(-1, len(model.tiers))
    bounds = np.repeat(np.array(rates) * (1 - DUST), len(MULTIPLIERS))
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = (bounds[:, None] / lines * np.where(model.prices > 0, model.prices, 1.0)).min(axis=1)
    keep = np.argsort(-np.nan_to_num(strength, posinf=NEVER), kind="stable")[:CUTS_MAX]
    return lines[keep], bounds[keep]


def fewest_alone(tier: int, cuts: Cuts) -> int:
    """Replicas of one tier below which the cuts rule it out alone."""
    lines, needs = cuts
    if not len(needs) or not (lines[:, tier] > 0).all():
        return 0
    return ceil(float((needs / lines[:, tier]).max()) - DUST)
