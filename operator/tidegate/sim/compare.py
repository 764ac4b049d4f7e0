"""
Several policies on one scenario, and the bounds that say how good any of them could have been.

In:    a scenario and policy names.
Out:   one `Score` per name, the run kept where a report wants its series.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, combinations
from math import ceil, inf

import numpy as np

from tidegate.domain.key import Key
from tidegate.sim.policies import registry
from tidegate.sim.policies.base import Policy, TierKey
from tidegate.sim.policies.bounds import Clairvoyant, Known, fluid_usd, know
from tidegate.sim.policies.static import Static
from tidegate.sim.runner import Run, run
from tidegate.sim.scenario import Scenario
from tidegate.sim.score import Score, score

Progress = Callable[[str, float], None]

PEAK_S = 60.0
# Hindsight for the clairvoyant: share of the knee that a replica is given, from bold to careful.
LOADS = (1.15, 1.0, 0.9, 0.8, 0.7, 0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A score, and the run behind it (None for the fluid bound, which no run has)."""

    score: Score
    run: Run | None


def compare(scenario: Scenario, policies: Iterable[str], *, progress: Progress | None = None) -> dict[str, Result]:
    """Run every named policy; a name that stands for several runs gives the best of them."""
    bench = _Bench(scenario, progress)
    return {name: bench.result(name) for name in policies}


class _Bench:
    """One scenario's runs, with what the bounds need to know found out once."""

    def __init__(self, scenario: Scenario, progress: Progress | None) -> None:
        self.scenario, self.progress = scenario, progress
        self._known: dict[Key, Known] | None = None

    def result(self, name: str) -> Result:
        if name == "fluid":
            return self._fluid()
        if name == "static":
            return self._run(Static(self._static()), name)
        if name == "clairvoyant":
            return self._clairvoyant()
        results = [self._run(make(), name) for make in registry.makers(name, self.scenario)]
        return min(results, key=lambda r: badness(r.score))

    @property
    def known(self) -> dict[Key, Known]:
        if self._known is None:
            self._known = {s.spec.key: know(self.scenario, s) for s in self.scenario.services}
        return self._known

    def _run(self, policy: Policy, name: str) -> Result:
        report = None if self.progress is None else (lambda share: self.progress(name, share))  # type: ignore[misc]
        done = run(self.scenario, policy, progress=report)
        return Result(score=score(done), run=done)

    def _static(self) -> dict[TierKey, int]:
        """Replicas of the cheapest tier for the busiest minute."""
        wish: dict[TierKey, int] = {}
        for key, known in self.known.items():
            service = known.service
            counts = np.histogram(service.traffic.arrival_s, np.arange(0, self.scenario.duration_s + PEAK_S, PEAK_S))[0]
            name = (known.cheapest or [service.spec.tiers[0].name])[0]
            knee = known.knees_rps[name]
            need = ceil(counts.max() / PEAK_S / knee) if knee > 0 else service.spec.replicas_max
            wish[key, name] = max(service.spec.replicas_min, min(service.spec.replicas_max, need))
        return wish

    def _clairvoyant(self) -> Result:
        best: Result | None = None
        for tiers in self._mixes():
            before: Result | None = None
            for load in LOADS:
                found = self._run(Clairvoyant(self.known, tiers=tiers, load=load), "clairvoyant")
                if best is None or badness(found.score) < badness(best.score):
                    best = found
                # A more careful load only costs more once targets are met, or once it no longer helps.
                if found.score.met or (before is not None and badness(found.score) >= badness(before.score)):
                    break
                before = found
        assert best is not None
        return best

    def _mixes(self) -> list[Mapping[Key, tuple[str, ...]]]:
        """The two cheapest tiers alone, and both together; where nothing is usable, the first tier."""
        picks: dict[Key, list[tuple[str, ...]]] = {}
        for key, known in self.known.items():
            best = known.cheapest[:2] or [known.service.spec.tiers[0].name]
            picks[key] = [*((n,) for n in best), *combinations(best, 2)]
        longest = max(len(p) for p in picks.values())
        return [{k: p[min(i, len(p) - 1)] for k, p in picks.items()} for i in range(longest)]

    def _fluid(self) -> Result:
        usd = sum(fluid_usd(self.scenario, s) for s in self.scenario.services)
        tokens = sum(
            float(s.traffic.window(start_s=0, end_s=self.scenario.duration_s).output_tokens.sum())
            * s.spec.slo.attainment
            for s in self.scenario.services
        )
        bound = Score(
            scenario=self.scenario.name, policy="fluid", attainment=None, usd=usd,
            usd_per_million_good_tokens=usd / tokens * 1e6 if tokens else None, gpu_hours=float("nan"),
            joules_per_good_token=None, quality=None, actions=0, replicas_mean=float("nan"), parts={},
        )  # fmt: skip
        return Result(score=bound, run=None)


def badness(one: Score) -> tuple[float, float]:
    """Order of runs, best first: targets met before targets missed, then money, or how far the target was missed."""
    if one.met:
        return 0.0, one.usd
    short = max(
        (max(0.0, p.target - p.attainment) for p in one.parts.values() if p.attainment is not None), default=inf
    )
    return 1.0 + short, one.usd


def all_names(chosen: str) -> list[str]:
    """Names from a comma-separated option."""
    return list(chain.from_iterable(p.split() for p in chosen.split(",")))
