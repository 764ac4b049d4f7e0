"""
Several policies in one scenario, next to the bounds that show how good a policy could have been.

In:    a scenario and policy names.
Out:   one `Result` per name: the score, and the run behind it if there is one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice

from tidegate.domain.key import Key
from tidegate.errors import SpecError
from tidegate.sim.hindsight import Search
from tidegate.sim.policies import registry
from tidegate.sim.policies.base import Policy
from tidegate.sim.policies.bounds import Known, fluid_usd, know
from tidegate.sim.policies.static import fixed
from tidegate.sim.runner import run
from tidegate.sim.scenario import Scenario
from tidegate.sim.score import Result, Score, badness, hopeless, score

Progress = Callable[[str, float], None]

STATIC, EVERYBODY = "static", "rivals"


def compare(
    scenario: Scenario,
    policies: Iterable[str],
    *,
    progress: Progress | None = None,
    known: Mapping[str, Score] | None = None,
) -> dict[str, Result]:
    """
    Run every named policy. If a name stands for several runs, the best of them counts.

    Args:
        known: Scores of this scenario from earlier runs, which are not repeated.
    """
    bench = _Bench(scenario, progress)
    bench.results |= {name: Result(score=one, run=None) for name, one in (known or {}).items()}
    return {name: bench.result(name) for name in policies}


class _Bench:
    """The runs of one scenario; what the bounds need to know is computed once."""

    def __init__(self, scenario: Scenario, progress: Progress | None) -> None:
        self.scenario, self.progress = scenario, progress
        self._known: dict[Key, Known] | None = None
        self.results: dict[str, Result] = {}

    def result(self, name: str) -> Result:
        if name not in self.results:
            self.results[name] = self._found(name)
        return self.results[name]

    def _found(self, name: str) -> Result:
        if name == "fluid":
            return self._fluid()
        if name == "clairvoyant":
            return self._clairvoyant()
        base, tuned, tier = name.partition(registry.TUNED)
        # The runs as shipped come first among the tuned ones, and their best is known already: skip them.
        best = self.result(base + tier) if tuned else None
        before = sum(1 for _ in self._makers(base + tier)) if tuned else 0
        for make in islice(self._makers(name), before, None):
            found = self._run(make(), name, None if best is None else best.score)
            if found is not None and (best is None or badness(found.score) < badness(best.score)):
                best = found
        assert best is not None
        return best

    def _makers(self, name: str) -> Iterator[Callable[[], Policy]]:
        if name not in (STATIC, STATIC + registry.TUNED):
            yield from registry.makers(name, self.scenario)
        else:
            yield from fixed(self.scenario, self.known, tuned=name.endswith(registry.TUNED))

    @property
    def known(self) -> dict[Key, Known]:
        if self._known is None:
            self._known = {s.spec.key: know(self.scenario, s) for s in self.scenario.services}
        return self._known

    def _run(self, policy: Policy, name: str, best: Score | None = None) -> Result | None:
        """A run and its score; None if it was aborted because it could not beat `best`."""
        report = None if self.progress is None else partial(self.progress, name)
        look = None if best is None else partial(hopeless, best)
        done = run(self.scenario, policy, progress=report, hopeless=look)
        return None if done.cut else Result(score=score(done), run=done)

    def _clairvoyant(self) -> Result:
        def whole(policy: Policy) -> Result:
            result = self._run(policy, policy.name)
            assert result is not None, "nothing cuts it"
            return result

        return Search(self.scenario, self.known, whole).best()

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
            seed=self.scenario.seed,
        )  # fmt: skip
        return Result(score=bound, run=None)


def all_names(chosen: str) -> list[str]:
    """
    Names from an option, separated by commas or blanks; `rivals` and `rivals*` stand for all rivals.

    Raises:
        SpecError: There is no name in it.
    """
    found: list[str] = []
    for name in chain.from_iterable(p.split() for p in chosen.split(",")):
        many = name in (EVERYBODY, EVERYBODY + registry.TUNED)
        star = name.removeprefix(EVERYBODY)
        found += [n + star for n in (*registry.RIVALS, *registry.FLEETS)] if many else [name]
    if not found:
        raise SpecError(field="--policy", value=chosen, allowed="must name at least one policy")
    return list(dict.fromkeys(found))
