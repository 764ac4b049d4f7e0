"""What is learned, how fast, and what is left out."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.estimate.build import ACCELERATORS, CHAT, H100, LLAMA_8B, TICK_S, assess, deployment, reading_of, seen, tier
from tidegate import estimate
from tidegate.domain.law import PerformanceLaw, Provenance
from tidegate.domain.observation import DeploymentObservation, Histogram, Missing, TierState
from tidegate.domain.spec import PerformanceHint, Slo
from tidegate.estimate.comparison import prompt_of
from tidegate.estimate.fit import fit
from tidegate.estimate.law import coefficients_of, confidence_of, law_in_force
from tidegate.estimate.memory import EstimateMemory, Prompt, Sample, TierMemory
from tidegate.estimate.priors import prior_of
from tidegate.estimate.samples import kept_prompts
from tidegate.estimate.service import Service, state_at

SPEC = deployment()
PRIOR = prior_of(LLAMA_8B, tier(), H100)


def truth(factor: float) -> PerformanceLaw:
    """The prior's law with every time changed by a factor."""
    law = PRIOR.law
    return replace(
        law,
        a_s=factor * law.a_s,
        b_s=factor * law.b_s,
        c_s=factor * law.c_s,
        p0_s=factor * law.p0_s,
        p1_s=factor * law.p1_s,
    )


def watch(
    observations: list[DeploymentObservation], memory: EstimateMemory | None = None, *, start_s: float = 0.0
) -> EstimateMemory:
    """The memory after these observations, one a tick."""
    for i, observation in enumerate(observations):
        memory = estimate.learn(
            memory, spec=SPEC, accelerators=ACCELERATORS, observation=observation, time_s=start_s + i * TICK_S
        )
    assert memory is not None
    return memory


def learned(memory: EstimateMemory) -> TierMemory:
    return memory.tiers["bf16"]


def law_of(memory: EstimateMemory) -> PerformanceLaw:
    return law_in_force(PRIOR, learned(memory))


def steady(
    law: PerformanceLaw, *, minutes: float, running: float = 20.0, **changes: object
) -> list[DeploymentObservation]:
    return [seen(reading_of(law, running=running, **changes))] * round(minutes * 60 / TICK_S)


def wandering(
    law: PerformanceLaw, *, minutes: float, seed: int = 1, noise: float = 0.02
) -> list[DeploymentObservation]:
    """Load that moves between 2 and 64 running requests, read with noise."""
    rng = random.Random(seed)
    found = []
    for i in range(round(minutes * 60 / TICK_S)):
        running = 2.0 * 32 ** abs(((i / 40) % 2) - 1)
        reading = reading_of(law, running=running)
        assert reading.itl_mean_s is not None
        found.append(seen(replace(reading, itl_mean_s=reading.itl_mean_s * rng.uniform(1 - noise, 1 + noise))))
    return found


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.4, 2.0])
def test_a_prior_that_is_wrong_by_a_factor_is_put_right_within_three_minutes(factor: float) -> None:
    memory = watch(steady(truth(factor), minutes=3))
    assert law_of(memory).itl_s(20, CHAT) == pytest.approx(truth(factor).itl_s(20, CHAT), rel=0.05)


def test_one_operating_point_gives_one_factor_and_no_more() -> None:
    memory = watch(steady(truth(1.5), minutes=30))
    factors = learned(memory).factors
    assert factors.a_s == factors.b_s == factors.c_s
    assert not learned(memory).vector


def test_a_wide_range_of_load_tells_the_coefficients_apart() -> None:
    """The base is right, but everything per request takes twice as long, which a single factor cannot express."""
    slower = replace(PRIOR.law, b_s=2 * PRIOR.law.b_s, c_s=2 * PRIOR.law.c_s, p1_s=1.5 * PRIOR.law.p1_s)
    memory = watch(wandering(slower, minutes=40))
    assert learned(memory).vector
    for running, error in ((2, 0.05), (16, 0.05), (64, 0.05), (150, 0.12)):
        assert law_of(memory).itl_s(running, CHAT) == pytest.approx(slower.itl_s(running, CHAT), rel=error)


def test_the_estimate_says_where_its_law_comes_from() -> None:
    def provenance(memory: EstimateMemory) -> Provenance:
        found = assess(memory, SPEC)
        return found["bf16"].provenance

    assert provenance(EstimateMemory()) is Provenance.TABLE
    assert provenance(watch(steady(truth(1.2), minutes=5))) is Provenance.SCALED
    assert provenance(watch(wandering(truth(1.2), minutes=30))) is Provenance.LEARNED


def test_a_server_that_counts_nothing_that_runs_teaches_the_same() -> None:
    told = steady(truth(1.4), minutes=20)
    untold = [seen(replace(reading_of(truth(1.4), running=20.0), running=None))] * len(told)
    assert learned(watch(untold)) == learned(watch(told))


def test_prompts_are_kept_by_size_and_those_of_one_size_are_mixed() -> None:
    short, long = Prompt(tokens=1100.0, prefill_s=0.05), Prompt(tokens=4500.0, prefill_s=0.2)
    assert kept_prompts((short,), long) == (short, long)
    first, second = kept_prompts((short, long), Prompt(tokens=1200.0, prefill_s=0.06))
    assert first == long
    assert (1100.0 < second.tokens < 1200.0, 0.05 < second.prefill_s < 0.06) == (True, True)


def test_a_law_is_believed_less_where_it_errs_and_beyond_what_was_seen() -> None:
    sample = Sample(running=16.0, context=1000.0, interference=4.0, itl_s=0.01)
    one = TierMemory(mark=PRIOR.mark, base=PRIOR.base, samples=(sample,), windows=20)
    whole, wrong, useless = replace(one, vector=True), replace(one, error=0.2), replace(one, error=3.0)
    for memory in (one, whole):
        inside, edge, beyond = (confidence_of(PRIOR, memory, running=n) for n in (4.0, 16.0, 128.0))
        assert inside == edge > beyond > PRIOR.confidence
    assert confidence_of(PRIOR, whole, running=128.0) > confidence_of(PRIOR, one, running=128.0)
    assert confidence_of(PRIOR, one, running=16.0) > confidence_of(PRIOR, wrong, running=16.0)
    assert confidence_of(PRIOR, useless, running=16.0) == 0.0


def test_confidence_grows_with_what_is_seen_and_falls_when_the_law_moves() -> None:
    def confidence(memory: EstimateMemory) -> float:
        found = assess(memory, SPEC)
        return found["bf16"].confidence

    young, old = watch(steady(truth(1.2), minutes=3)), watch(wandering(truth(1.2), minutes=60))
    moved = watch(steady(truth(2.4), minutes=9), old, start_s=3600)
    assert confidence(EstimateMemory()) < confidence(young) < confidence(old)
    assert confidence(moved) < confidence(old)


def test_a_law_that_moves_is_learned_again_within_ten_minutes() -> None:
    before = watch(wandering(truth(1.0), minutes=60))
    after = watch(steady(truth(2.0), minutes=10), before, start_s=3600)
    assert law_of(after).itl_s(20, CHAT) == pytest.approx(truth(2.0).itl_s(20, CHAT), rel=0.06)


def test_a_law_that_moves_a_little_is_followed() -> None:
    before = watch(wandering(truth(1.0), minutes=60))
    after = watch(steady(truth(1.2), minutes=60), before, start_s=3600)
    assert law_of(after).itl_s(20, CHAT) == pytest.approx(truth(1.2).itl_s(20, CHAT), rel=0.06)


@pytest.mark.parametrize(
    ("slow", "fast"),
    [pytest.param(60, 33, id="half as many requests run"), pytest.param(105, 50, id="near saturation fewer than half")],
)
def test_a_tier_that_gets_faster_is_not_taken_for_one_that_gets_slower_under_load(slow: int, fast: int) -> None:
    """A faster engine at the same load: fewer requests run, and larger batches are never observed."""
    before = watch([*steady(truth(1.3), minutes=9, running=250), *steady(truth(1.3), minutes=51, running=slow)])
    after = watch(steady(truth(1.0), minutes=10, running=fast), before, start_s=3600)
    assert law_of(after).itl_s(120, CHAT) == pytest.approx(truth(1.0).itl_s(120, CHAT), rel=0.05)


def test_large_batches_of_two_slow_hours_are_not_believed_for_days() -> None:
    """While a tier is slow, replicas are added. They stay, so that batches this large are never observed again."""
    usual = [r for n in (30, 60, 90, 150, 90, 60, 90, 150, 90) for r in steady(truth(1.0), minutes=10, running=n)]
    slow = [r for n in (165, 110, 105, 125) for r in steady(truth(1.15), minutes=15, running=n)]
    again = [r for n in (65, 60, 50, 30) for r in steady(truth(1.0), minutes=60, running=n)]
    after = watch([*usual, *slow, *again])
    assert law_of(after).itl_s(150, CHAT) == pytest.approx(truth(1.0).itl_s(150, CHAT), rel=0.02)


def test_a_law_of_another_shape_is_learned_from_both_ends_of_the_load() -> None:
    """That few requests are faster than a prior says of them, by what many teach, does not mean the law has moved."""
    flat = replace(PRIOR.law, a_s=0.6 * PRIOR.law.a_s)
    before = watch(steady(flat, minutes=60, running=64))
    after = watch(steady(flat, minutes=20, running=4), before, start_s=3600)
    for running in (4, 64):
        assert law_of(after).itl_s(running, CHAT) == pytest.approx(flat.itl_s(running, CHAT), rel=0.05)


def test_one_outlier_changes_nothing() -> None:
    before = watch(steady(truth(1.0), minutes=20))
    spoiled = seen(reading_of(truth(4.0), running=20))
    after = watch([spoiled], before, start_s=1260)
    assert law_of(after) == law_of(before)
    again = watch(steady(truth(1.0), minutes=20), after, start_s=1320)
    assert law_of(again).itl_s(20, CHAT) == pytest.approx(PRIOR.law.itl_s(20, CHAT), rel=0.03)


GOOD = reading_of(truth(2.0), running=20)
TEACHES_NOTHING = {
    "a stale reading": seen(replace(GOOD, age_s=90.0)),
    "no reading": seen(Missing(reason="NoData")),
    "no ready replica": seen(GOOD, ready=0),
    "an empty window": seen(replace(GOOD, itl_mean_s=None)),
    "nobody says how long requests are": seen(replace(GOOD, prompt_tokens_mean=None)),
    "a load that jumped within the window": seen(replace(GOOD, running=200.0)),
    "nothing ran": seen(replace(GOOD, completion_rps=0.0, running=0.0)),
    "the tier was not seen": DeploymentObservation(tiers={}),
}


def test_it_learns_where_scrapes_are_minutes_apart() -> None:
    assert learned(watch([seen(replace(GOOD, age_s=90.0, window_s=300.0))] * 40)).windows > 0


@pytest.mark.parametrize("observation", TEACHES_NOTHING.values(), ids=TEACHES_NOTHING.keys())
def test_it_learns_no_law_from(observation: DeploymentObservation) -> None:
    memory = watch([observation] * 40)
    assert learned(memory).windows == 0
    assert law_of(memory) == PRIOR.law


def test_replicas_that_just_became_ready_are_not_learned_from() -> None:
    slow = seen(reading_of(truth(3.0), running=20, ready=2), ready=2)
    before = watch(steady(truth(1.0), minutes=10))
    after = watch([slow] * 7, before, start_s=600)
    assert law_of(after) == law_of(before)


def test_a_tick_that_teaches_nothing_gives_back_the_same_memory() -> None:
    memory = watch(steady(truth(1.0), minutes=10))
    observation = seen(reading_of(truth(1.0), running=20))
    assert estimate.learn(memory, spec=SPEC, accelerators=ACCELERATORS, observation=observation, time_s=590) is memory


def test_other_weights_start_again() -> None:
    memory = watch(steady(truth(2.0), minutes=10))
    other = deployment(tier(args=("--quantization=fp8",)))
    found = assess(memory, other)
    assert found["bf16"].provenance is Provenance.TABLE
    observation = seen(reading_of(truth(2.0), running=20))
    after = estimate.learn(memory, spec=other, accelerators=ACCELERATORS, observation=observation, time_s=700)
    assert learned(after).windows == 0


def test_a_tier_that_left_the_spec_is_forgotten() -> None:
    memory = watch(steady(truth(2.0), minutes=10))
    after = estimate.learn(
        memory,
        spec=deployment(tier("fp8")),
        accelerators=ACCELERATORS,
        observation=DeploymentObservation(tiers={}),
        time_s=700,
    )
    assert set(after.tiers) == {"fp8"}


def test_first_tokens_teach_what_a_prompt_costs() -> None:
    """Prompts take twice as long as the prior says, decoding does not: at low load only TTFT shows it."""
    slow = replace(PRIOR.law, p1_s=2 * PRIOR.law.p1_s)
    workload = replace(CHAT, prompt_tokens=4000.0)
    running = 1.0
    reading = reading_of(slow, running=running, workload=workload)
    step = slow.a_s + running * (slow.b_s + slow.c_s * workload.context_tokens)
    reading = replace(reading, ttft_mean_s=1.5 * step + slow.p1_s * 4000)
    memory = watch([seen(reading)] * 60)
    assert law_of(memory).p1_s == pytest.approx(slow.p1_s, rel=0.2)


@pytest.mark.parametrize("p0_share", [0.4, 2.0], ids=["a prompt alone costs less than an empty step", "and more"])
@pytest.mark.parametrize("running", [2.0, 30.0])
def test_first_tokens_as_they_are_predicted_leave_the_law_as_it_is(p0_share: float, running: float) -> None:
    """What is subtracted from a measured TTFT equals what the prediction adds, at any load."""
    truth_law = replace(PRIOR.law, p0_s=p0_share * PRIOR.law.a_s)
    reading = reading_of(truth_law, running=running)
    assert reading.arrival_rps is not None
    service = Service(
        law=truth_law,
        workload=CHAT,
        batched_tokens_max=float(PRIOR.serving.batched_tokens_max),
        context_max=PRIOR.serving.context_max,
        burstiness=1.0,
        ttft_s=1.0,
        itl_s=1.0,
    )
    state = state_at(service, np.array([reading.arrival_rps]))
    outside = max(0.0, truth_law.p0_s - truth_law.a_s)
    own = CHAT.prefill_tokens * (truth_law.p1_s + state.step_s[0] / service.batched_tokens_max)
    first = max(truth_law.p0_s, state.step_s[0] + outside) + state.step_s[0] / 2 + own
    ttft_s = float(first + state.waits[0] * state.wait_s[0])
    prompt = prompt_of(service, state, replace(reading, ttft_mean_s=ttft_s), 1)
    assert prompt is not None
    assert prompt.prefill_s == pytest.approx(truth_law.prefill_s(CHAT), rel=0.01)


def test_a_window_that_saw_a_queue_come_and_go_teaches_nothing_of_prompts_misses_and_routers() -> None:
    late = Histogram((0.5, 1.0, float("inf")), (0.0, 100.0, 200.0))
    good = reading_of(PRIOR.law, running=20.0, ttft_mean_s=0.2, dispersion=0.1, ttft=late, request_itl=late)
    assert good.arrival_rps is not None
    burst = replace(good, arrival_rps=2 * good.arrival_rps, dispersion=50.0)
    calm, stormy = learned(watch([seen(good)] * 12)), learned(watch([seen(burst)] * 12))
    assert calm.prompts
    assert calm.misses > 1.0
    assert calm.balanced > 0
    assert (stormy.prompts, stormy.misses, stormy.balanced) == ((), 1.0, 0)


def test_one_replica_that_holds_a_queue_does_not_make_a_router_draw_lots() -> None:
    even = reading_of(PRIOR.law, running=20.0, dispersion=0.05)
    memory = watch([seen(even)] * 200 + [seen(replace(even, dispersion=400.0))] * 8)
    assert 0.05 < learned(memory).dispersion < 0.6


def test_what_runs_has_the_context_that_the_spread_of_its_answers_says() -> None:
    """Running answers of equal length are half finished on average; exponential ones have the mean length."""
    law = replace(PRIOR.law, c_s=5 * PRIOR.law.c_s)
    workload = replace(CHAT, output_tokens=2000.0, output_variation=0.0)
    observations = [seen(reading_of(law, running=40.0, workload=workload))] * 20

    def factor(variation: float) -> float:
        memory = None
        for i, observation in enumerate(observations):
            memory = estimate.learn(
                memory, spec=SPEC, accelerators=ACCELERATORS, observation=observation, time_s=i * TICK_S,
                variations=(1.0, variation),
            )  # fmt: skip
        assert memory is not None
        return law_of(memory).itl_s(40.0, workload) / law.itl_s(40.0, workload)

    assert factor(0.0) == pytest.approx(1.0, rel=0.03)
    assert factor(1.0) < factor(0.0)


def test_time_outside_of_the_engine_is_no_prompt_cost() -> None:
    """20 ms of HTTP and tokenizer on short prompts are learned as p0; the cost per token does not change."""
    workload = replace(CHAT, prompt_tokens=200.0)
    law = PRIOR.law
    reading = replace(
        reading_of(law, running=4.0, workload=workload), ttft_mean_s=1.5 * law.a_s + law.p1_s * 200 + 0.02
    )
    memory = watch([seen(reading)] * 60)
    assert law_of(memory).p1_s == pytest.approx(law.p1_s, rel=0.35)
    assert law_of(memory).p0_s > law.p0_s + 0.01


def test_cache_hits_and_reported_memory_are_remembered() -> None:
    changes = {"prefix_cache_hit_rate": 0.5, "kv_cache_tokens_per_replica": 300_000.0}
    memory = watch(steady(truth(1.0), minutes=10, **changes))
    assert learned(memory).prefix_hit == pytest.approx(0.5)
    assert law_of(memory).kv_cache_tokens == 300_000.0


@pytest.mark.parametrize(
    ("before", "running", "after", "low", "high"),
    [
        pytest.param(0.9, 20.0, 0.0, 0.0, 0.01, id="a cache that hits no more is believed at once"),
        pytest.param(0.0, 20.0, 0.9, 0.2, 0.7, id="one that begins to hit is not"),
        pytest.param(0.9, 0.2, 0.5, 0.6, 0.85, id="a few requests that miss may be chance"),
        pytest.param(0.9, 200.0, 0.86, 0.861, 0.9, id="a few more misses are followed slowly"),
    ],
)
def test_what_the_cache_no_longer_saves_counts_at_once(
    before: float, running: float, after: float, low: float, high: float
) -> None:
    memory = watch(steady(truth(1.0), minutes=6, running=running, prefix_cache_hit_rate=before))
    changed = steady(truth(1.0), minutes=2, running=running, prefix_cache_hit_rate=after)
    memory = watch(changed, memory, start_s=360.0)
    hit = learned(memory).prefix_hit
    assert hit is not None
    assert low <= hit <= high


def test_hits_are_learned_from_windows_that_the_law_does_not_fit() -> None:
    memory = watch(steady(truth(1.0), minutes=10, prefix_cache_hit_rate=0.9))
    memory = watch(steady(truth(3.0), minutes=1, prefix_cache_hit_rate=0.0), memory, start_s=600.0)
    assert learned(memory).surprises
    assert learned(memory).prefix_hit == 0.0


def holding(factor: float, *, running: float = 20.0, tokens: float = 30_000.0, **changes: object) -> dict[str, object]:
    """Changes to a reading whose running requests hold this many times their contexts of a KV cache of `tokens`."""
    usage = factor * running * CHAT.context_tokens / tokens
    return {"running": running, "kv_cache_tokens_per_replica": tokens, "kv_cache_usage": usage} | changes


def few_end(running: float) -> dict[str, object]:
    """Changes to a reading of as many running requests: twelve of them end in a minute."""
    return {"completion_rps": 0.2, "output_tokens_per_s": running / PRIOR.law.itl_s(running + 1.0, CHAT)}


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        pytest.param(holding(3.0), 10_000.0, id="states of a fixed size: a third fits"),
        pytest.param(holding(0.5), 60_000.0, id="shared prefixes: twice fits"),
        pytest.param(holding(1.06), 30_000.0, id="the mean context of twenty requests is not known better"),
        pytest.param(holding(3.0, tokens=600_000.0), 600_000.0, id="usage that is too low to be measured"),
        pytest.param(holding(6.0, running=3.0), 30_000.0, id="requests that are too few for a mean"),
        pytest.param(holding(3.0) | few_end(20.0), 30_000.0, id="answers of which too few end to know their mean"),
        pytest.param(holding(3.0, kv_cache_usage=None), 30_000.0, id="no usage is reported"),
        pytest.param(holding(40.0), 30_000.0 / 16, id="no request holds more than can be believed"),
        pytest.param(holding(1.0, tokens=1e5, kv_cache_tokens_per_replica=None), 1e5, id="a size that was a guess"),
    ],
)
def test_the_cache_fits_what_requests_are_seen_to_hold_of_it(changes: dict[str, object], tokens: float) -> None:
    memory = watch(steady(truth(1.0), minutes=3, **changes))
    assert law_of(memory).kv_cache_tokens == pytest.approx(tokens, rel=0.01)


def test_what_requests_hold_follows_their_length() -> None:
    memory = watch(steady(truth(1.0), minutes=5, **holding(6.0)))
    memory = watch(steady(truth(1.0), minutes=15, **holding(2.0)), memory, start_s=300.0)
    assert law_of(memory).kv_cache_tokens == pytest.approx(15_000.0, rel=0.12)


@pytest.mark.parametrize(
    ("factor", "changes", "tokens"),
    [
        pytest.param(6.0, {}, 30_000.0, id="no longer believed"),
        pytest.param(6.0, few_end(4.0), 30_000.0, id="although few end"),
        pytest.param(0.5, {}, 60_000.0, id="it does not show that a prefix is no longer shared"),
    ],
)
def test_a_usage_too_low_to_be_measured_shows_that_requests_do_not_hold_several_times_their_contexts(
    factor: float, changes: dict[str, object], tokens: float
) -> None:
    """Longer requests hold less per token, and the fleet has grown meanwhile: the usage would stay low for good."""
    memory = watch(steady(truth(1.0), minutes=5, **holding(factor)))
    memory = watch(steady(truth(1.0), minutes=30, **holding(0.9, running=4.0) | changes), memory, start_s=300.0)
    assert law_of(memory).kv_cache_tokens == pytest.approx(tokens, rel=0.12)


def test_memory_that_the_user_states_wins_over_what_is_reported() -> None:
    spec = deployment(tier(hint=PerformanceHint(kv_cache_tokens=100_000.0)))
    memory = None
    for i in range(40):
        memory = estimate.learn(
            memory,
            spec=spec,
            accelerators=ACCELERATORS,
            observation=seen(reading_of(PRIOR.law, **holding(3.0))),  # type: ignore[arg-type]
            time_s=i * TICK_S,
        )
    assert memory is not None
    found = assess(memory, spec)
    assert found["bf16"].law.kv_cache_tokens == 100_000.0


def histogram(share: float, *, bound_s: float, total: float = 1000.0) -> Histogram:
    return Histogram((bound_s, float("inf")), (share * total, total))


@pytest.mark.parametrize(("inside", "moves"), [(0.80, 1), (1.0, 0)], ids=["many missed", "nobody missed"])
def test_attainment_that_is_worse_than_thought_raises_the_expected_misses(inside: float, moves: int) -> None:
    ttft, itl = histogram(inside, bound_s=SPEC.slo.ttft_s), histogram(1.0, bound_s=SPEC.slo.itl_s)
    memory = watch(steady(truth(1.0), minutes=30, running=100.0, ttft=ttft, request_itl=itl))
    assert (learned(memory).misses > 1.5) == bool(moves)


@pytest.mark.parametrize("ready", [8, 16, 40])
def test_a_large_fleet_that_misses_as_often_as_it_is_planned_with_does_not_raise_the_expected_misses(
    ready: int,
) -> None:
    """Plans count on no gain beyond eight replicas, so that is what a large fleet is compared with."""
    spec = deployment(slo=Slo(ttft_s=0.5, itl_s=0.02, attainment=0.95))
    requests = replace(CHAT, prompt_tokens=1600.0, output_tokens=200.0)
    reading = reading_of(PRIOR.law, running=25.0, workload=requests, ready=ready, dispersion=0.0)
    reading = replace(reading, ttft=histogram(0.9969, bound_s=0.5), request_itl=histogram(1.0, bound_s=0.02))
    memory = None
    for tick in range(240):
        memory = estimate.learn(
            memory, spec=spec, accelerators=ACCELERATORS, observation=seen(reading, ready=ready), time_s=tick * TICK_S
        )
    assert memory is not None
    assert learned(memory).misses < 1.2


def test_misses_that_were_seen_lower_the_capacity() -> None:
    def capacity(inside: float) -> float:
        ttft, itl = histogram(inside, bound_s=SPEC.slo.ttft_s), histogram(1.0, bound_s=SPEC.slo.itl_s)
        memory = watch(steady(truth(1.0), minutes=60, running=100.0, ttft=ttft, request_itl=itl))
        found = assess(memory, SPEC)
        return found["bf16"].capacity_rps

    assert capacity(0.85) < capacity(1.0)


@pytest.mark.parametrize(("inside", "moves"), [(0.80, 1), (1.0, 0)], ids=["many missed", "nobody missed"])
def test_answers_of_one_token_teach_no_law_but_whether_targets_are_met(inside: float, moves: int) -> None:
    ttft = histogram(inside, bound_s=SPEC.slo.ttft_s)
    one = replace(
        reading_of(PRIOR.law, running=1.0, workload=replace(CHAT, output_tokens=1.0), ttft=ttft), itl_mean_s=None
    )
    memory = learned(watch([seen(one)] * 120))
    assert memory.samples == ()
    assert (memory.misses > 1.5) == bool(moves)
    longer = replace(one, output_tokens_mean=2.0)
    assert learned(watch([seen(longer)] * 120)).windows == 0


@settings(max_examples=30, deadline=None)
@given(
    factor=st.floats(0.5, 2.0),
    silence=st.sampled_from(["missing", "stale", "empty", "gone"]),
    ticks=st.integers(1, 60),
)
def test_silence_never_lowers_the_capacity(factor: float, silence: str, ticks: int) -> None:
    memory = watch(wandering(truth(factor), minutes=10))
    quiet = {
        "missing": seen(Missing(reason="SourceDown")),
        "stale": seen(replace(GOOD, age_s=1000.0)),
        "empty": seen(replace(GOOD, itl_mean_s=None, ttft_mean_s=None, arrival_rps=None)),
        "gone": DeploymentObservation(tiers={"bf16": TierState(ready=0)}),
    }[silence]
    after = watch([quiet] * ticks, memory, start_s=600)

    def capacity(known: EstimateMemory) -> float:
        found = assess(known, SPEC)
        return found["bf16"].capacity_rps

    assert capacity(after) == capacity(memory) > 0


def test_the_same_observations_give_the_same_memory() -> None:
    observations = wandering(truth(1.3), minutes=20)
    assert watch(observations) == watch(observations)


def test_a_restart_in_the_middle_changes_nothing() -> None:
    first, second = wandering(truth(1.3), minutes=20), wandering(truth(1.3), minutes=20, seed=2)
    memory = watch(first)
    kept = EstimateMemory.from_json(memory.to_json())
    assert watch(second, kept, start_s=1200) == watch(second, memory, start_s=1200)


SAMPLE = Sample(running=1.0, context=1125.0, interference=4.0, itl_s=0.01)
samples = st.builds(lambda n, itl: replace(SAMPLE, running=n, itl_s=itl), st.floats(1, 300), st.floats(1e-4, 10.0))


@given(st.lists(samples, min_size=1, max_size=12))
def test_no_set_of_samples_gives_a_law_that_can_not_be_used(found: list[Sample]) -> None:
    factors = fit(coefficients_of(PRIOR), found).factors
    for value in (factors.a_s, factors.b_s, factors.c_s, factors.p0_s, factors.p1_s):
        assert 0.05 <= value <= 20.0


def test_a_clock_that_ran_ahead_and_was_set_right_stops_no_learning() -> None:
    """A replica is observed while the clock is a week ahead; after it is corrected, learning continues normally."""
    week_s = 7 * 86_400.0

    def two(minutes: float, **changes: object) -> list[DeploymentObservation]:
        reading = reading_of(truth(1.3), running=20.0, ready=2, **changes)
        return [seen(reading, ready=2)] * round(minutes * 60 / TICK_S)

    ahead = watch(two(4.0), watch(steady(truth(1.0), minutes=30)), start_s=week_s)
    assert min(learned(ahead).sampled_s, learned(ahead).changed_s, learned(ahead).compared_s) >= week_s
    missed = {
        "ttft": Histogram((0.5, float("inf")), (0.0, 100.0)),
        "itl": Histogram((0.04, float("inf")), (100.0, 100.0)),
    }
    after = learned(watch(two(10.0, **missed), ahead, start_s=1800.0))
    assert min(after.sampled_s, after.changed_s, after.compared_s) >= 1800.0
    assert max(after.sampled_s, after.changed_s, after.compared_s) < week_s
    assert law_in_force(PRIOR, after).itl_s(20, CHAT) == pytest.approx(truth(1.3).itl_s(20, CHAT), rel=0.02)
    assert after.misses > 1.0


def test_several_engines_in_a_pod_teach_the_law_of_one() -> None:
    """Four engines on four accelerators report four times the load and KV memory of one, and their mean usage."""
    spec = deployment(tier(gpus=4, args=("-dp", "4"), model=LLAMA_8B))
    prior = prior_of(LLAMA_8B, spec.tiers[0], H100)
    memory = None
    for i in range(60):
        # `ready` multiplies what is reported: here it stands for the engines of one pod.
        running = 4.0 + 4 * (i % 8)
        cache = {"kv_cache_tokens_per_replica": 1_600_000.0, "kv_cache_usage": 4 * running * CHAT.context_tokens / 4e5}
        reading = reading_of(truth(1.2), ready=4, running=running, **cache)
        memory = estimate.learn(
            memory, spec=spec, accelerators=ACCELERATORS, observation=seen(reading), time_s=75.0 * i
        )
    assert memory is not None
    found = law_in_force(prior, learned(memory))
    assert found.itl_s(20, CHAT) == pytest.approx(truth(1.2).itl_s(20, CHAT), rel=0.02)
    assert found.kv_cache_tokens == pytest.approx(100_000.0, rel=0.01)
