"""The assessed capacity of a tier: properties for any law, requests and targets."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.estimate.build import ACCELERATORS, CHAT, H100, LLAMA_8B, assess, deployment, tier
from tidegate import estimate
from tidegate.cycle import BURSTINESS_MAX
from tidegate.domain.estimate import TierEstimate
from tidegate.domain.key import Key
from tidegate.domain.law import Workload
from tidegate.domain.spec import Accelerator, PerformanceHint, Slo
from tidegate.estimate import assessment
from tidegate.estimate.law import A_MIN_S
from tidegate.estimate.memory import EstimateMemory, Sample, TierMemory
from tidegate.estimate.priors import prior_of
from tidegate.estimate.requests import computed_step
from tidegate.estimate.roofline import Coefficients

NOTHING = EstimateMemory()


def assessed(
    *,
    hint: PerformanceHint | None = None,
    slo: Slo | None = None,
    workload: Workload = CHAT,
    burstiness: float = 1.0,
    args: tuple[str, ...] | None = None,
) -> TierEstimate:
    spec = deployment(tier(hint=hint, args=args), slo=slo)
    found = assess(NOTHING, spec, workload=workload, burstiness=burstiness)
    return found["bf16"]


def held_rps(**asked: Any) -> float:
    """What a replica carries at the targets asked for; 0 where they are out of reach and others are planned for."""
    found = assessed(**asked)
    return found.capacity_rps if found.relaxed is None else 0.0


hints = st.builds(
    PerformanceHint,
    a_s=st.floats(1e-3, 0.1),
    b_s=st.floats(0.0, 1e-3),
    c_s=st.floats(0.0, 1e-6),
    p0_s=st.floats(0.0, 0.05),
    p1_s=st.floats(0.0, 5e-4),
    kv_cache_tokens=st.floats(1e3, 1e6),
    running_max=st.floats(1, 1024),
)
slos = st.builds(Slo, ttft_s=st.floats(0.05, 10.0), itl_s=st.floats(0.005, 0.3), attainment=st.floats(0.5, 0.999))
workloads = st.builds(
    Workload,
    prompt_tokens=st.floats(10, 30_000),
    output_tokens=st.floats(5, 4_000),
    prompt_variation=st.floats(0, 3),
    output_variation=st.floats(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(hint=hints, slo=slos, workload=workloads, burstiness=st.floats(1, 1000))
def test_a_curve_has_the_properties_that_planning_needs(
    hint: PerformanceHint, slo: Slo, workload: Workload, burstiness: float
) -> None:
    """With more load, running requests never fall and attainment never rises; values > 0; capacity is on the curve."""
    found = assessed(hint=hint, slo=slo, workload=workload, burstiness=burstiness)
    points = found.curve.points
    assert len(points) >= 2
    for left, right in pairwise(points):
        assert left.rate_rps < right.rate_rps
        assert left.running <= right.running
        assert left.attainment >= right.attainment
    for point in points:
        assert 0.0 <= point.attainment <= 1.0
        assert 0.0 < point.ttft_s_p95 < float("inf")
        assert 0.0 < point.itl_s_p95 < float("inf")
    assert 0.0 <= found.capacity_rps <= points[-1].rate_rps


@settings(max_examples=80, deadline=None)
@given(hint=hints, slo=slos, workload=workloads)
def test_at_capacity_the_target_is_met_or_capacity_is_zero(hint: PerformanceHint, slo: Slo, workload: Workload) -> None:
    found = assessed(hint=hint, slo=slo, workload=workload)
    if found.capacity_rps > 0:
        assert found.curve.at_rate(found.capacity_rps).attainment >= slo.attainment - 1e-6


# The curve is known at some rates: where attainment falls off a cliff between two, capacity is right to a few percent.
ROUNDING = 1.08


@settings(max_examples=80, deadline=None)
@given(hint=hints, slo=slos, workload=workloads, factor=st.floats(0.3, 0.97))
def test_a_faster_law_carries_no_less(hint: PerformanceHint, slo: Slo, workload: Workload, factor: float) -> None:
    faster = replace(
        hint,
        a_s=factor * (hint.a_s or 0.0),
        b_s=factor * (hint.b_s or 0.0),
        c_s=factor * (hint.c_s or 0.0),
        p0_s=factor * (hint.p0_s or 0.0),
        p1_s=factor * (hint.p1_s or 0.0),
    )
    slow, fast = (held_rps(hint=h, slo=slo, workload=workload) for h in (hint, faster))
    assert fast * ROUNDING >= slow


@settings(max_examples=80, deadline=None)
@given(
    hint=hints, slo=slos, workload=workloads, factor=st.floats(0.3, 0.97), which=st.sampled_from(["ttft_s", "itl_s"])
)
def test_a_tighter_target_carries_no_more(
    hint: PerformanceHint, slo: Slo, workload: Workload, factor: float, which: str
) -> None:
    tight = replace(slo, **{which: factor * getattr(slo, which)})
    loose, tighter = (held_rps(hint=hint, slo=s, workload=workload) for s in (slo, tight))
    assert tighter <= loose * ROUNDING


@settings(max_examples=80, deadline=None)
@given(hint=hints, slo=slos, workload=workloads, share=st.floats(0.5, 0.998))
def test_a_higher_share_carries_no_more(hint: PerformanceHint, slo: Slo, workload: Workload, share: float) -> None:
    low, high = sorted((slo.attainment, share))
    few, many = (held_rps(hint=hint, slo=replace(slo, attainment=a), workload=workload) for a in (high, low))
    assert few <= many * ROUNDING


@settings(max_examples=60, deadline=None)
@given(workload=workloads, burstiness=st.lists(st.floats(1, BURSTINESS_MAX), min_size=2, max_size=2).map(sorted))
def test_burstier_arrivals_carry_no_more(workload: Workload, burstiness: list[float]) -> None:
    calm, bursty = (held_rps(workload=workload, burstiness=b) for b in burstiness)
    assert bursty <= calm * ROUNDING


@pytest.mark.parametrize(
    ("slo", "missed"),
    [
        pytest.param(Slo(ttft_s=1.0, itl_s=0.002), "itl_s", id="gaps"),
        pytest.param(Slo(ttft_s=0.001, itl_s=0.1), "ttft_s", id="first token"),
    ],
)
def test_targets_out_of_reach_are_relaxed_to_what_a_third_of_the_load_meets(slo: Slo, missed: str) -> None:
    found = assessed(slo=slo)
    assert found.relaxed is not None
    assert found.relaxed.attainment < 0.5
    idle, instead, asked = (getattr(r, n) for r, n in (
        (found.relaxed, f"idle_{missed}"), (found.relaxed, missed), (slo, missed),
    ))  # fmt: skip
    assert asked < idle < instead
    kept = "itl_s" if missed == "ttft_s" else "ttft_s"
    assert getattr(found.relaxed, kept) >= getattr(slo, kept)
    eased = assessed(slo=Slo(ttft_s=found.relaxed.ttft_s, itl_s=found.relaxed.itl_s))
    assert eased.relaxed is None
    assert found.capacity_rps == eased.capacity_rps > 0
    assert found.curve == eased.curve


@pytest.mark.parametrize(
    ("near", "far"),
    [
        pytest.param(PerformanceHint(a_s=0.003, p0_s=0.3), PerformanceHint(a_s=0.03, p0_s=0.001), id="first tokens"),
        pytest.param(PerformanceHint(a_s=0.012, p0_s=0.001), PerformanceHint(a_s=0.003, p0_s=0.6), id="gaps"),
    ],
)
def test_targets_are_relaxed_to_those_of_the_tier_that_misses_by_the_smallest_factor(
    near: PerformanceHint, far: PerformanceHint
) -> None:
    slo = Slo(ttft_s=0.1, itl_s=0.005)
    instead = assess(NOTHING, deployment(tier("far", hint=far), tier("near", hint=near), slo=slo))["far"].relaxed
    alone = assess(NOTHING, deployment(tier("near", hint=near), slo=slo))["near"].relaxed
    assert instead is not None
    assert alone is not None
    assert (instead.ttft_s, instead.itl_s) == (alone.ttft_s, alone.itl_s)


def test_steps_that_are_said_to_take_no_time_take_some() -> None:
    found = assessed(hint=PerformanceHint(a_s=0.0, b_s=0.0, c_s=0.0, p0_s=0.0, p1_s=0.0))
    assert found.law.a_s == A_MIN_S
    assert 0.0 < found.capacity_rps < float("inf")


def test_a_dip_at_low_load_takes_no_capacity_away() -> None:
    workload = Workload(prompt_tokens=100.0, output_tokens=1.2, prompt_variation=3.0, output_variation=0.5)
    spec = deployment(tier(), model="Qwen/Qwen3-30B-A3B", slo=Slo(ttft_s=0.2, itl_s=0.1, attainment=0.9999))
    even, bursty = (assess(NOTHING, spec, workload=workload, burstiness=b)["bf16"] for b in (1.0, 10.0))
    assert 0.9 * even.capacity_rps < bursty.capacity_rps < even.capacity_rps


def test_targets_that_a_tier_meets_stay_though_another_does_not() -> None:
    slo = Slo(ttft_s=1.0, itl_s=0.0075)
    spec = deployment(tier(), tier("slow", hint=PerformanceHint(a_s=0.05)), slo=slo)
    found = assess(NOTHING, spec)
    assert found["bf16"].capacity_rps > 0
    assert found["slow"].capacity_rps == 0
    assert [e.relaxed for e in found.values()] == [None, None]


CHANGES = {
    "fewer sequences": ("--max-num-seqs=8", "--max-num-seqs=256"),
    "less memory": ("--gpu-memory-utilization=0.3", "--gpu-memory-utilization=0.92"),
    "a cache switched off": ("--no-enable-prefix-caching", "--enable-prefix-caching"),
}


@pytest.mark.parametrize(("less", "more"), CHANGES.values(), ids=CHANGES.keys())
def test_an_argument_that_takes_away_room_takes_away_capacity(less: str, more: str) -> None:
    def carried(argument: str) -> float:
        spec = deployment(tier(args=(argument,)))
        mark = prior_of(spec.model, spec.tiers[0], H100).mark
        half_cached = TierMemory(mark=mark, base=1, computed=computed_step(None, 0.5))
        return assess(EstimateMemory(tiers={"bf16": half_cached}), spec)["bf16"].capacity_rps

    assert carried(less) < carried(more)


def test_a_limit_on_the_context_takes_off_the_longest_prompts() -> None:
    """With a TTFT target of 0.2 s long prompts miss; a server that rejects them misses less."""
    long = replace(CHAT, prompt_tokens=3000.0, prompt_variation=1.0)
    slo = Slo(ttft_s=0.2, itl_s=0.1, attainment=0.95)
    free = assessed(slo=slo, workload=long, args=())
    limited = assessed(slo=slo, workload=long, args=("--max-model-len", "6000"))
    assert limited.capacity_rps > free.capacity_rps


def test_smaller_steps_trade_first_tokens_for_even_ones() -> None:
    """512 tokens a step instead of 8192: inter-token latencies spread less, first tokens come later."""
    long = replace(CHAT, prompt_tokens=4000.0, prompt_variation=0.5)
    small, large = (assessed(workload=long, args=(f"--max-num-batched-tokens={b}",)) for b in (512, 8192))
    rate = 2.5
    assert small.curve.at_rate(rate).ttft_s_p95 > large.curve.at_rate(rate).ttft_s_p95


def test_every_tier_is_estimated_also_those_that_nothing_runs_on() -> None:
    spec = deployment(tier("bf16"), tier("fp8"), tier("int4"), tier("lost", accelerator="gone"))
    found = assess(NOTHING, spec)
    assert set(found) == {"bf16", "fp8", "int4", "lost"}
    assert all(e.capacity_rps > 0 for e in found.values())
    assert found["lost"].confidence < 0.1
    assert found["lost"].power_w is None
    assert found["fp8"].power_w is not None


def test_fp8_wins_under_load_and_int4_when_few_run() -> None:
    """Weight-only int4 reads less but computes no faster: best with one request, worst with a hundred."""
    spec = deployment(tier("bf16"), tier("fp8"), tier("int4"))
    found = assess(NOTHING, spec)
    alone = {name: e.law.itl_s(1, CHAT) for name, e in found.items()}
    crowded = {name: e.law.itl_s(128, CHAT) for name, e in found.items()}
    assert alone["int4"] < alone["fp8"] < alone["bf16"]
    assert crowded["fp8"] < crowded["bf16"] < crowded["int4"]


def test_a_guess_is_given_a_wider_margin() -> None:
    known, guess = (
        assess(NOTHING, deployment(tier(hint=HINT), model=model))["bf16"]
        for model in ("meta-llama/Llama-3.1-8B", "chat")
    )
    assert guess.confidence < known.confidence
    # The same curve, but for the doubt.
    at_target = [min(p.rate_rps for p in e.curve.points if p.attainment < 0.95) for e in (known, guess)]
    assert guess.capacity_rps / at_target[1] < known.capacity_rps / at_target[0]


HINT = PerformanceHint(a_s=0.006, kv_cache_tokens=400_000.0, running_max=256.0)


def test_asking_again_gives_the_same_object_and_noise_in_the_request_shape_gives_no_other() -> None:
    spec = deployment()
    memory = estimate.expect(NOTHING, workload=CHAT, burstiness=3.0)
    first = estimate.assess(memory, spec=spec, accelerators=ACCELERATORS)
    assert estimate.assess(memory, spec=spec, accelerators=ACCELERATORS) is first
    noisy = estimate.expect(memory, workload=replace(CHAT, prompt_tokens=1001.0), burstiness=3.0)
    assert estimate.assess(noisy, spec=spec, accelerators=ACCELERATORS) is first


def test_the_knee_of_a_published_setup_is_near_what_was_seen() -> None:
    """Qwen3 32B on two H100 in bf16, prompts of 4000 tokens, 3 s and 100 ms: about 1.4 to 1.5 requests/s a replica."""
    spec = deployment(tier(gpus=2), model="Qwen/Qwen3-32B", slo=Slo(ttft_s=3.0, itl_s=0.1, attainment=0.9))
    long = Workload(prompt_tokens=4000.0, output_tokens=1000.0, prompt_variation=0.25, output_variation=0.25)
    found = assess(NOTHING, spec, workload=long)
    curve = found["bf16"].curve
    knee = max(p.rate_rps for p in curve.points if p.attainment >= 0.9)
    assert knee == pytest.approx(1.45, rel=0.15)


def test_a_tier_nobody_tried_is_no_faster_for_it_than_those_that_were_tried_beside_it() -> None:
    """bf16 takes 1.5 times its prior; fp8 on the same accelerators is assumed slower too, other tiers are not."""
    l40s = Accelerator(name="nvidia-l40s", price_usd_per_hour=1.2)
    stated = PerformanceHint(a_s=0.004, b_s=1e-5, c_s=3e-8, p1_s=2e-5)
    spec = deployment(
        tier("bf16"), tier("fp8"), tier("elsewhere", accelerator="nvidia-l40s"), tier("stated", hint=stated)
    )
    classes = {**ACCELERATORS, "nvidia-l40s": l40s}
    slow = Coefficients(a_s=1.5, b_s=1.5, c_s=1.5, p0_s=1.5, p1_s=1.5)
    sample = Sample(running=10.0, context=1000.0, interference=4.0, itl_s=0.01)
    prior = prior_of(LLAMA_8B, spec.tiers[0], ACCELERATORS["nvidia-h100"])
    known = TierMemory(mark=prior.mark, base=prior.base, factors=slow, samples=(sample,), windows=20)
    seen = EstimateMemory(tiers={"bf16": known})
    before, after = (assess(m, spec, accelerators=classes) for m in (NOTHING, seen))
    ratios = {name: after[name].law.a_s / before[name].law.a_s for name in after}
    assert ratios["bf16"] == pytest.approx(1.5, rel=0.01)
    assert 1.2 < ratios["fp8"] < 1.4
    assert ratios["elsewhere"] == ratios["stated"] == 1.0


def test_four_engines_in_a_pod_carry_four_times_what_one_does() -> None:
    spec = deployment(tier("one", args=()), tier("four", gpus=4, args=("--data-parallel-size", "4")))
    found = assess(NOTHING, spec)
    one, four = found["one"], found["four"]
    assert (four.law, four.confidence, four.pooling) == (one.law, one.confidence, one.pooling)
    assert four.capacity_rps == pytest.approx(4 * one.capacity_rps)
    assert one.power_w is not None
    assert four.power_w == pytest.approx(4 * one.power_w)
    for small, large in zip(one.curve.points, four.curve.points, strict=True):
        assert (large.rate_rps, large.running) == pytest.approx((4 * small.rate_rps, 4 * small.running))
        assert (large.attainment, large.ttft_s_p95) == (small.attainment, small.ttft_s_p95)


def test_what_a_user_states_of_the_memory_of_a_replica_is_shared_by_its_engines() -> None:
    hint = PerformanceHint(kv_cache_tokens=400_000.0, running_max=64.0)
    law = prior_of(LLAMA_8B, tier(gpus=4, args=("-dp", "4"), hint=hint), H100).law
    assert (law.kv_cache_tokens, law.running_max) == (100_000.0, 64.0)


def test_one_answer_is_kept_for_each_deployment_however_often_its_spec_is_made_anew() -> None:
    """While the target of a tier is absent, each tick brings another spec."""
    memory = estimate.expect(NOTHING, workload=CHAT, burstiness=1.0)
    assessment._last.clear()
    for _ in range(50):
        estimate.assess(memory, spec=deployment(), accelerators=ACCELERATORS)
    assert len(assessment._last) == 1


def test_answers_are_kept_for_so_many_deployments_and_the_one_not_asked_for_longest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assessment, "SLOTS_MAX", 3)
    assessment._last.clear()
    memory = estimate.expect(NOTHING, workload=CHAT, burstiness=1.0)
    specs = [replace(deployment(), key=Key("prod", name)) for name in "abcd"]
    for spec in [*specs[:3], specs[0], specs[3]]:
        estimate.assess(memory, spec=spec, accelerators=ACCELERATORS)
    assert [key.name for key in assessment._last] == ["c", "a", "d"]


def test_there_is_room_for_ten_thousand_deployments_in_little_memory() -> None:
    assert assessment.SLOTS_MAX > 10_000
    limit = assessment._carried.cache_info().maxsize
    assert limit is not None
    assessment._carried.cache_clear()
    assessed()
    tracemalloc.start()
    for i in range(20):
        assessed(workload=replace(CHAT, prompt_tokens=200.0 * 1.06**i))
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert assessment._carried.cache_info().currsize == 21
    assert limit * taken_bytes / 20 < 60 * 2**20
