"""
Compare policies over many runs: which of them kept the promises, and at what cost.

In:    scores by scenario and policy, one per seed, with seeds in the same order everywhere.
Out:   one `Standing` per policy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.sim.policies.registry import OWN
from tidegate.sim.score import Score

Results = Mapping[str, Mapping[str, Sequence[Score]]]

# Costs are relative to this policy's: the best known result through the same actuators.
REFERENCE = "clairvoyant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    One policy over all runs.

    Args:
        runs: Scenarios times seeds; 0 for the fluid bound.
        kept: Runs in which it kept every promise.
        shortfall: Mean distance of attainment to its target over the deployments that missed it; None if none did.
        cost: Geometric mean of the cost per good token relative to the reference's; None if unknown.
        cheaper: Runs in which both it and tidegate kept all promises and it cost less per good token.
        kept_alone: Runs in which it kept all promises and tidegate did not.
    """

    policy: str
    runs: int
    kept: int
    shortfall: float | None
    cost: float | None
    cheaper: int
    kept_alone: int

    @property
    def is_own(self) -> bool:
        """Whether this is tidegate's own policy."""
        return self.policy == OWN


def standings(results: Results) -> list[Standing]:
    """One standing per policy, in order of first appearance."""
    names = dict.fromkeys(name for group in results.values() for name in group)
    return [_standing(name, results) for name in names]


def ratio(group: Mapping[str, Sequence[Score]], name: str, index: int) -> float | None:
    """Cost per good token of one run relative to the reference with the same seed; None if either is unknown."""
    if REFERENCE not in group:
        return None
    own, best = (group[n][index].usd_per_million_good_tokens for n in (name, REFERENCE))
    return own / best if own is not None and best else None


def ratios(group: Mapping[str, Sequence[Score]], name: str) -> list[float]:
    """`ratio` for every seed for which it is known."""
    found = (ratio(group, name, i) for i in range(len(group[name])))
    return [r for r in found if r is not None]


def _standing(name: str, results: Results) -> Standing:
    pairs = list(_pairs(name, results))
    costs = [r for group in results.values() if name in group for r in ratios(group, name)]
    short = [
        p.target - p.attainment
        for one, _ in pairs
        for p in one.parts.values()
        if p.attainment is not None and p.attainment < p.target
    ]
    return Standing(
        policy=name,
        runs=len(pairs),
        kept=sum(one.met for one, _ in pairs),
        shortfall=float(np.mean(short)) if short else None,
        cost=float(np.exp(np.mean(np.log(costs)))) if costs else None,
        cheaper=sum(_cheaper(one, own) for one, own in pairs),
        kept_alone=sum(one.met and own is not None and not own.met for one, own in pairs),
    )


def _pairs(name: str, results: Results) -> Iterator[tuple[Score, Score | None]]:
    """Runs of a policy, each with tidegate's run of the same scenario and seed, if there is one."""
    for group in results.values():
        for index, one in enumerate(group.get(name, ())):
            if one.attainment is not None:
                yield one, group[OWN][index] if OWN in group else None


def _cheaper(one: Score, own: Score | None) -> bool:
    if own is None or not (one.met and own.met):
        return False
    mine, theirs = one.usd_per_million_good_tokens, own.usd_per_million_good_tokens
    return mine is not None and theirs is not None and mine < theirs
