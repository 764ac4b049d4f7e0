"""The whole core, tick by tick: order of the three stages, and memory that survives a restart."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tidegate import cycle
from tidegate.domain.decision import FleetDecision, Reason
from tidegate.domain.key import Key
from tidegate.domain.observation import (
    DeploymentObservation,
    FleetObservation,
    Histogram,
    Missing,
    TierReading,
    TierState,
)
from tidegate.domain.spec import Accelerator, DeploymentSpec, FleetPolicy, Slo, TierSpec
from tidegate.errors import SpecError
from tidegate.memory import DeploymentMemory, FleetMemory

START_S = 1_767_225_600.0
TICK_S = 15.0
POOLS = {"nvidia-h100": Accelerator(name="nvidia-h100", price_usd_per_hour=3.0)}


def fleet_of(name: str = "chat") -> DeploymentSpec:
    tiers = tuple(
        TierSpec(
            name=tier,
            quality=quality,
            accelerator="nvidia-h100",
            accelerators_per_replica=1,
            replicas_min=0,
            replicas_max=24,
        )
        for tier, quality in (("bf16", 1.0), ("fp8", 0.995), ("int4", 0.96))
    )
    return DeploymentSpec(
        key=Key("prod", name),
        model="meta-llama/Llama-3.1-8B-Instruct",
        slo=Slo(ttft_s=1.0, itl_s=0.04),
        tiers=tiers,
        replicas_max=24,
    )


def reading(rate: float, replicas: int) -> TierReading:
    """Replicas that obey a law: 6.5 ms a token and 0.12 ms more per running request, by Little's law."""
    requests, tokens = rate * 60, rate * 60 * 200
    itl = 0.0065 / (1 - min(0.9, rate / replicas * 200 * 0.00012))
    return TierReading(
        window_s=60.0,
        age_s=5.0,
        arrival_rps=rate,
        completion_rps=rate,
        prompt_tokens_mean=1000.0,
        output_tokens_mean=200.0,
        running=rate * 200 * itl,
        waiting=0.0,
        ttft=Histogram((0.25, 1.0, float("inf")), (requests * 0.9, requests, requests)),
        itl=Histogram((0.02, 0.04, float("inf")), (tokens * 0.95, tokens, tokens)),
        ttft_mean_s=0.1,
        itl_mean_s=itl,
    )


def seen(ready: dict[str, int], rate: float, *, silent: bool = False) -> DeploymentObservation:
    total = sum(ready.values())
    return DeploymentObservation(
        tiers={
            name: TierState(
                ready=n,
                reading=Missing(reason="NoReplicas")
                if not n
                else (Missing(reason="Timeout") if silent else reading(rate * n / total, n)),
            )
            for name, n in ready.items()
        }
    )


def drive(
    *, rates: Sequence[float], restart: bool = False, silent: range = range(0)
) -> tuple[FleetMemory, list[FleetDecision]]:
    """A closed loop: what is decided is ready at the next tick. `restart` sends the memory through JSON each tick."""
    spec, memory, decisions = fleet_of(), FleetMemory(), []
    policy = FleetPolicy(deployments={spec.key: spec}, accelerators=POOLS)
    ready = {"bf16": 1, "fp8": 0, "int4": 0}
    for i, rate in enumerate(rates):
        if restart:
            memory = FleetMemory(
                deployments={
                    key: DeploymentMemory.from_json(json.loads(json.dumps(m.to_json())))
                    for key, m in memory.deployments.items()
                }
            )
        observation = FleetObservation(
            time_s=START_S + TICK_S * i, deployments={spec.key: seen(ready, rate, silent=i in silent)}
        )
        memory, decision = cycle.step(memory, observation, policy)
        decisions.append(decision)
        ready = {name: t.replicas for name, t in decision.deployments[spec.key].tiers.items()}
    return memory, decisions


def counts(decision: FleetDecision) -> dict[str, int]:
    return {name: t.replicas for name, t in decision.deployments[fleet_of().key].tiers.items()}


def test_more_load_leads_to_more_replicas_and_less_load_to_fewer() -> None:
    _, decisions = drive(rates=[10] * 40 + [80] * 40 + [10] * 80)
    low, high, after = (sum(counts(decisions[i]).values()) for i in (39, 79, 159))
    assert low < high
    assert after < high


def test_a_restart_at_every_tick_changes_no_decision() -> None:
    rates = [20 + 25 * (i // 40 % 2) for i in range(160)]
    _, through = drive(rates=rates)
    _, restarted = drive(rates=rates, restart=True)
    for ours, theirs in zip(through, restarted, strict=True):
        assert counts(ours) == counts(theirs)
        a, b = ours.deployments[fleet_of().key], theirs.deployments[fleet_of().key]
        assert (a.reason, a.message, a.conditions) == (b.reason, b.message, b.conditions)


def test_silence_holds_what_serves() -> None:
    _, decisions = drive(rates=[40] * 40 + [1] * 60, silent=range(40, 100))
    before = counts(decisions[39])
    assert all(n >= before[name] for d in decisions[40:] for name, n in counts(d).items())
    assert decisions[41].deployments[fleet_of().key].reason is Reason.METRICS_MISSING
    assert decisions[-1].deployments[fleet_of().key].reason is Reason.FALLBACK


def test_the_same_input_gives_the_same_output() -> None:
    rates = [20, 22, 60, 61, 30] * 10
    assert repr(drive(rates=rates)[1]) == repr(drive(rates=rates)[1])


def test_an_unobserved_deployment_keeps_its_memory_and_gets_no_decision() -> None:
    memory, _ = drive(rates=[20] * 5)
    spec = fleet_of()
    policy = FleetPolicy(deployments={spec.key: spec}, accelerators=POOLS)
    after, decision = cycle.step(memory, FleetObservation(time_s=START_S + 1000, deployments={}), policy)
    assert decision.deployments == {}
    assert after.deployments == memory.deployments


def test_a_removed_deployment_is_forgotten() -> None:
    memory, _ = drive(rates=[20] * 5)
    policy = FleetPolicy(deployments={}, accelerators=POOLS)
    after, _ = cycle.step(memory, FleetObservation(time_s=START_S + 1000, deployments={}), policy)
    assert after == FleetMemory()


@pytest.mark.parametrize("fault", [ArithmeticError, AssertionError, ValueError, KeyError, TypeError, SpecError])
def test_a_fault_in_one_deployment_leaves_the_others_planned(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """What the one has started stays its own: the others get what is left of the accelerators."""
    good, bad = fleet_of("good"), fleet_of("bad")
    broken = replace(bad, tiers=(replace(bad.tiers[0], name="other"),))
    honest = cycle.estimate.assess

    def assess(*args: object, **kwargs: object) -> object:
        if kwargs["spec"] is broken:
            raise fault(field="law", value=0, allowed="more") if fault is SpecError else fault("math domain error")
        return honest(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cycle.estimate, "assess", assess)
    observation = FleetObservation(
        time_s=START_S,
        deployments={good.key: seen({"bf16": 1}, 500.0), bad.key: seen({"other": 3}, 5.0)},
    )
    pool = {"nvidia-h100": replace(POOLS["nvidia-h100"], capacity=5)}
    policy = FleetPolicy(deployments={good.key: good, bad.key: broken}, accelerators=pool)
    memory, decision = cycle.step(FleetMemory(), observation, policy)
    assert decision.deployments[bad.key].error is not None
    assert decision.deployments[bad.key].tiers == {}
    assert decision.deployments[good.key].error is None
    assert sum(t.replicas for t in decision.deployments[good.key].tiers.values()) == 2
    assert set(memory.deployments) == {good.key, bad.key}
