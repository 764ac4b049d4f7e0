"""
The goal of a plan, and linear inequalities that every fleet that meets it satisfies.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from tidegate.plan.fleet import RATE_DUST, Fleet, FleetModel, Floats, Ints
from tidegate.plan.scenario import Scenarios

Cuts = tuple[Floats, Floats]  # weights and needs of linear inequalities; shapes (cuts, tiers), (cuts,)

DUST = 1e-9  # rounding error of float arithmetic on shares and dollars
NEVER = 1e15  # $/h of load that no replica can carry
# Multipliers m of the bound: 0 bounds by raw throughput, large ones by throughput at the target alone.
MULTIPLIERS = np.array([0.0, 3.0, 10.0, 30.0, 100.0])
# Targets near the overload floor give no bound, because a fleet beyond its curve still reaches them.
OVERLOAD_MARGIN = 0.05
CUTS_MAX = 6  # the strongest few of all bounds are enough to prune


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """
    What a fleet must achieve, and what moves cost.

    Args:
        demand: Expected demand.
        attainment: Least share of requests that must meet both targets.
        quality: Least traffic-weighted mean quality.
        current: Fleet that moves are counted from.
        grow_usd, shrink_usd: Cost of the move for one replica more or fewer, spread over the plan's life, $/h; shape
            (tiers,). `shrink_usd` is below the price, so that fewer replicas never cost more.
    """

    demand: Scenarios
    attainment: float
    quality: float
    current: Fleet
    grow_usd: Floats
    shrink_usd: Floats

    def objective(self, model: FleetModel, fleets: Ints) -> Floats:
        """Cost of many fleets, including moves, $/h; shape (fleets,)."""
        change = fleets - np.array(self.current)
        moves = np.maximum(change, 0) @ self.grow_usd + np.maximum(-change, 0) @ self.shrink_usd
        total: Floats = fleets @ model.costs + moves
        return total


def no_cuts(model: FleetModel) -> Cuts:
    """Cuts that every fleet satisfies."""
    return np.zeros((0, len(model.tiers))), np.zeros(0)


def cuts_of(model: FleetModel, goal: Goal) -> Cuts:
    """
    Inequalities weights @ n >= needs that every fleet that meets the goal satisfies.

    Attainment never rises with load, so a fleet that attains t at one rate attains at most t at all higher rates. The
    scenarios from a rate upward bring the share q of the requests, and at most 1 - target of all requests may miss. So
    attainment at that rate must be at least 1 - (1 - target) / q. `search` says why the bound is linear in n.
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
    """Fewest replicas with which one tier alone can satisfy the cuts; 0 if some cut does not count it."""
    lines, needs = cuts
    if not len(needs) or not (lines[:, tier] > 0).all():
        return 0
    return ceil(float((needs / lines[:, tier]).max()) - DUST)
