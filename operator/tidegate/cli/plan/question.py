"""
Ask the core: which fleet would run for these manifests and this demand, and what would it achieve and cost?

In:    specs and classes, the load of each deployment.
Out:   one `Verdict` per deployment, decided by one step of the cycle over all of them, with no replicas running.
       Deployments in mode Recommend or Off, and paused ones, act here: the question is what they would do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate import cycle, forecast
from tidegate.domain.decision import Decision
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, FleetObservation, GatewayReading, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, FleetPolicy, Mode
from tidegate.forecast import ForecastMemory
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.units import MILLION, SECONDS_PER_HOUR

# Condition statuses that mean that the promises are kept; any other status breaks one.
KEPT = {"SLOMet": "True", "WithinBudget": "True", "QualityReduced": "False"}
# Maximum rounds of the search for the break-even; if it ends early, the result is too high, which is the safe side.
ROUNDS_MAX = 64
# Smallest and largest rate in the search for what a fleet carries, requests/s, and its relative precision.
RATE_LEAST, RATE_MOST, RATE_DUST = 1e-3, 1e6, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Demand of one deployment: memory of the forecast, and the stated or measured mean rate and request lengths."""

    memory: ForecastMemory
    rate_rps: float
    prompt_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPrice:
    """Price of a hosted API, $ per million prompt tokens and per million output tokens, >= 0."""

    usd_per_million_in: float
    usd_per_million_out: float

    def usd_per_hour(self, load: Load, rate_rps: float) -> float:
        """Cost at the API of requests like `load`'s at a rate, $/h."""
        per_request = load.prompt_tokens * self.usd_per_million_in + load.output_tokens * self.usd_per_million_out
        return rate_rps * SECONDS_PER_HOUR * per_request / MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """
    Cost of the own fleet compared with an API.

    Args:
        api_usd_per_hour: Cost at the API for the given demand.
        own_usd_per_hour: Cost of the decided fleet.
        rate_rps: From this demand up to the most that it can carry, the own fleet costs no more than the API; None:
            there is no such demand.
    """

    api_usd_per_hour: float
    own_usd_per_hour: float
    rate_rps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision for one deployment, with the spec and load it was made for."""

    spec: DeploymentSpec
    load: Load
    decision: Decision
    break_even: BreakEven | None = None

    @property
    def supposed(self) -> str:
        """A note that the manifest's mode or pause is ignored; empty if it has none."""
        said = [f"mode {self.spec.mode.value}"] if self.spec.mode is not Mode.AUTO else []
        said += ["paused"] if self.spec.paused else []
        return f"the manifest says {' and '.join(said)}: this is what mode Auto would do" if said else ""

    @property
    def is_kept(self) -> bool:
        """Whether all promises are kept: targets, budget, average quality."""
        if self.decision.error is not None:
            return False
        found = {c.type: c.status.value for c in self.decision.conditions}
        return all(found.get(kind) == status for kind, status in KEPT.items())

    @property
    def broken(self) -> list[str]:
        """A sentence for each promise that is not kept."""
        if self.decision.error is not None:
            return [self.decision.error]
        wrong = [c for c in self.decision.conditions if c.type in KEPT and c.status.value != KEPT[c.type]]
        return [f"{c.type} is {c.status.value}: {c.message}" for c in wrong]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Specs, classes, loads by deployment, and the time for schedules, unix seconds."""

    deployments: Mapping[Key, DeploymentSpec]
    accelerators: Mapping[str, Accelerator]
    loads: Mapping[Key, Load]
    time_s: float

    def decide(self, loads: Mapping[Key, Load] | None = None) -> Mapping[Key, Decision]:
        """Decisions of one step of the cycle with no replicas running; for `loads` if given."""
        asked = self.loads if loads is None else loads
        memory = FleetMemory(deployments={key: DeploymentMemory(forecast=load.memory) for key, load in asked.items()})
        seen = {key: _nothing_runs(self.deployments[key], load) for key, load in asked.items()}
        observation = FleetObservation(time_s=self.time_s, deployments=seen)
        specs = {key: self.deployments[key].acting() for key in asked}
        policy = FleetPolicy(deployments=specs, accelerators=self.accelerators)
        return cycle.step(memory, observation, policy)[1].deployments


def verdicts(question: Question, *, price: ApiPrice | None) -> list[Verdict]:
    """One verdict per deployment, in the order of the manifests; with break-even if there is a `price`."""
    decisions = question.decide()
    found = []
    for key, load in question.loads.items():
        decision = decisions[key]
        even = None if price is None or decision.prediction is None else break_even(question, key, decision, price)
        found.append(Verdict(spec=question.deployments[key], load=load, decision=decision, break_even=even))
    return found


def break_even(question: Question, key: Key, decision: Decision, price: ApiPrice) -> BreakEven:
    """
    The demand from which on the own fleet of this deployment, planned alone, costs no more than the API.

    d(0) = the most that the fleet can carry; d(n+1) = the demand at which the API costs as much as the fleet for d(n).
    The search descends, because the fleet's cost is a step function: one replica more may make it more expensive than
    the API again. As the cost never falls with demand, no fleet between d(n+1) and d(n) costs more than that for d(n),
    so from each d(n) on the fleet costs no more than the API.
    """
    load = question.loads[key]
    assert decision.prediction is not None, "only for a decided fleet"
    own, per_rps = decision.prediction.usd_per_hour, price.usd_per_hour(load, 1.0)
    found = None if per_rps <= 0 else _descend(question, key, per_rps)
    return BreakEven(api_usd_per_hour=price.usd_per_hour(load, load.rate_rps), own_usd_per_hour=own, rate_rps=found)


def _descend(question: Question, key: Key, usd_per_rps_hour: float) -> float | None:
    found, rate = None, _most_rps(question, key)
    for _ in range(ROUNDS_MAX):
        usd = _served_usd(question, key, rate) if rate > 0 else None
        if usd is None or usd / usd_per_rps_hour > rate * (1 + 1e-9):
            return found
        if usd == 0:  # on accelerators without a price it is so from the first request on
            return 0.0
        found, before, rate = rate, rate, usd / usd_per_rps_hour
        if rate >= before * (1 - 1e-6):
            return found
    return found


def _most_rps(question: Question, key: Key) -> float:
    """The highest demand that a fleet can carry with all promises kept, requests/s, within `RATE_DUST`; 0: none."""
    low, high = 0.0, 1.0
    while high < RATE_MOST and _served_usd(question, key, high) is not None:
        low, high = high, 2 * high
    while high - low > RATE_DUST * high and high > RATE_LEAST:
        middle = (low + high) / 2
        low, high = (low, middle) if _served_usd(question, key, middle) is None else (middle, high)
    return low


def _served_usd(question: Question, key: Key, rate_rps: float) -> float | None:
    """Cost of the fleet for a demand above 0, $/h; None if no fleet serves it with all promises kept."""
    load = stated(question.loads[key], rate_rps, question.time_s)
    verdict = Verdict(spec=question.deployments[key], load=load, decision=question.decide({key: load})[key])
    prediction, fleet = verdict.decision.prediction, verdict.decision.tiers.values()
    if not verdict.is_kept or prediction is None or not any(tier.replicas for tier in fleet):
        return None
    return prediction.usd_per_hour


def stated(load: Load, rate_rps: float, time_s: float) -> Load:
    """A load with the same request lengths at a constant rate."""
    memory = forecast.suppose(
        rate_rps=rate_rps, prompt_tokens=load.prompt_tokens, output_tokens=load.output_tokens, time_s=time_s - 1.0
    )
    return Load(memory=memory, rate_rps=rate_rps, prompt_tokens=load.prompt_tokens, output_tokens=load.output_tokens)


def _nothing_runs(spec: DeploymentSpec, load: Load) -> DeploymentObservation:
    return DeploymentObservation(
        tiers={tier.name: TierState() for tier in spec.tiers},
        gateway=GatewayReading(arrival_rps=load.rate_rps, queued=0.0),
    )
