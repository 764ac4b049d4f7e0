"""The estimate's memory: small, and unchanged by a restart."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.estimate.build import ACCELERATORS, CHAT, TICK_S, assess, deployment, reading_of, tier
from tidegate import estimate
from tidegate.domain.observation import DeploymentObservation, Histogram, TierState
from tidegate.estimate.memory import UNCHANGED, EstimateMemory
from tidegate.estimate.priors import prior_of

SPEC = deployment(tier("bf16"), tier("fp8"), tier("int4"))
# Of the 4 KiB that the whole memory of a deployment may take.
BYTES_MAX = 2048


def lived(ticks: int, seed: int) -> EstimateMemory:
    """The memory of three tiers after a life of loads, latencies and replicas that come and go."""
    rng = random.Random(seed)
    memory = None
    for i in range(ticks):
        tiers = {}
        for asked in SPEC.tiers:
            law = prior_of(SPEC.model, asked, ACCELERATORS["nvidia-h100"]).law
            counts = sorted(rng.uniform(0, 1000) for _ in range(3))
            tiers[asked.name] = TierState(
                ready=1 + (i // 60) % 3,
                startup_s=rng.uniform(30.0, 300.0),
                reading=reading_of(
                    law,
                    running=2.0 ** rng.uniform(0, 8),
                    ttft_mean_s=rng.uniform(0.03, 0.4),
                    prefix_cache_hit_rate=rng.random(),
                    kv_cache_tokens_per_replica=rng.uniform(1e4, 1e6),
                    kv_cache_usage=rng.random(),
                    ttft=Histogram((0.1, 0.5, float("inf")), tuple(counts)),
                    itl=Histogram((0.02, 0.04, float("inf")), tuple(counts)),
                ),
            )
        memory = estimate.learn(
            memory,
            spec=SPEC,
            accelerators=ACCELERATORS,
            observation=DeploymentObservation(tiers=tiers),
            time_s=1.7e9 + i * TICK_S,
        )
    assert memory is not None
    return memory


@settings(max_examples=10, deadline=None)
@given(ticks=st.integers(1, 400), seed=st.integers(0, 1000))
def test_a_memory_is_the_same_after_it_was_written_and_read(ticks: int, seed: int) -> None:
    memory = lived(ticks, seed)
    assert EstimateMemory.from_json(json.loads(json.dumps(memory.to_json()))) == memory


def test_a_tier_that_nobody_saw_and_the_requests_that_are_expected_are_remembered_too() -> None:
    memory = estimate.learn(
        None, spec=SPEC, accelerators=ACCELERATORS, observation=DeploymentObservation(tiers={}), time_s=1.7e9
    )
    memory = estimate.expect(memory, workload=CHAT, burstiness=3.0)
    read = EstimateMemory.from_json(json.loads(json.dumps(memory.to_json())))
    assert read == memory
    assert estimate.expect(read, workload=CHAT, burstiness=3.0) is read


def test_a_long_life_stays_small() -> None:
    assert len(json.dumps(lived(1500, 1).to_json(), separators=(",", ":"))) < BYTES_MAX


def test_a_tier_without_replicas_whose_pods_are_others_now_is_judged_by_its_prior_again() -> None:
    memory = lived(60, 1)
    gone = replace(memory.tiers["fp8"], ready=0)
    memory = replace(memory, tiers={**memory.tiers, "fp8": gone}).forgiven({"bf16", "fp8"})
    assert memory.tiers["bf16"] == lived(60, 1).tiers["bf16"], "its pods tell themselves what has changed"
    fp8 = memory.tiers["fp8"]
    assert (fp8.samples, fp8.windows, fp8.misses, fp8.factors) == ((), 0, 1.0, UNCHANGED)
    assert (fp8.startup, fp8.mark) == (gone.startup, gone.mark)


def damaged(**fields: object) -> dict[str, object]:
    return {"tiers": {"bf16": {**lived(60, 1).tiers["bf16"].to_json(), **fields}}}


DAMAGED: dict[str, dict[str, object]] = {
    "not a memory": {},
    "tiers that are a list": {"tiers": [1, 2]},
    "a tier that is a number": {"tiers": {"bf16": 3}},
    "a tier without fields": {"tiers": {"bf16": {}}},
    "text for a number": damaged(x="many"),
    "factors cut short": damaged(f=[1.0]),
    "tiers that are nothing": {"tiers": None},
    "a checksum that is none": damaged(a=-1),
    "a negative factor": damaged(f=[1.0, -1.0, 1.0, 1.0, 1.0]),
    "a factor that no law has": damaged(f=[1.0, 1.0, 1e300, 1.0, 1.0]),
    "a factor of zero": damaged(f=[1.0, 1.0, 1.0, 1.0, 0]),
    "a factor on misses below zero": damaged(x=-2.0),
    "a factor that is no number": damaged(f=[float("nan"), 1.0, 1.0, 1.0, 1.0]),
    "endless time": damaged(t=[float("inf"), 0.0, 0.0]),
    "a window without latency": damaged(s=[[8.0, 1000.0, 4.0, 0.0]]),
    "a window in which less than one ran": damaged(s=[[0.0, 1000.0, 4.0, 0.01]]),
    "a prompt of no tokens": damaged(p=[[0, 0.05]]),
    "a start-up in no time": damaged(w=[0, 10.0, 10.0, 3]),
    "a cache that saves more than all": damaged(h=1.5),
    "more left to compute than there is": damaged(c=4),
    "a cache of nothing": damaged(k=0),
    "fewer replicas than none": damaged(r=-1),
}


@pytest.mark.parametrize("value", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_no_memory_is_refused(value: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        EstimateMemory.from_json(value)


def test_startups_are_learned_with_their_lateness() -> None:
    def ask(memory: EstimateMemory) -> tuple[float, float]:
        found = assess(memory, SPEC)
        assert estimate.startup_times(memory, spec=SPEC)["bf16"] == found["bf16"].startup_s
        return found["bf16"].startup_s, found["bf16"].startup_s_late

    def after(*startups: float) -> EstimateMemory:
        memory = None
        for i, seen in enumerate(startups):
            state = TierState(ready=i + 1, startup_s=seen)
            memory = estimate.learn(
                memory,
                spec=SPEC,
                accelerators=ACCELERATORS,
                observation=DeploymentObservation(tiers={"bf16": state}),
                time_s=1000.0 * i,
            )
        assert memory is not None
        return memory

    unknown, steady, wild = EstimateMemory(), after(*[100.0] * 8), after(*[40.0, 160.0] * 4)
    assert ask(unknown)[0] > 30.0
    assert ask(unknown)[1] > ask(unknown)[0]
    assert ask(steady)[0] == pytest.approx(100.0, rel=0.02)
    assert ask(steady)[1] < ask(wild)[1]


def test_a_larger_model_is_thought_to_start_later() -> None:
    small, large = (
        estimate.startup_times(EstimateMemory(), spec=deployment(tier(gpus=4), model=model))["bf16"]
        for model in ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B")
    )
    assert small < large
