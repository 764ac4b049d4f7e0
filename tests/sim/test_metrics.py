"""What Prometheus reports about the simulated fleet."""

from dataclasses import replace

import numpy as np
import pytest

from tests.sim.builders import KEY, poisson, scenario, traffic
from tidegate.domain.observation import Missing, TierReading, TierState
from tidegate.sim.metrics import Scraper
from tidegate.sim.scenario import Fault, Scenario, Trouble
from tidegate.sim.world import World

BF16 = (KEY, "bf16")


def watched(of: Scenario, until_s: float) -> tuple[World, Scraper]:
    """A world lived through with a scrape every 15 s, 5 s before each tick."""
    world = World(of)
    scraper = Scraper(world)
    for now in np.arange(10.0, until_s, 15.0):
        world.advance(float(now))
        scraper.scrape()
    world.advance(until_s)
    return world, scraper


def state(scraper: Scraper) -> TierState:
    return scraper.observe().deployments[KEY].tiers["bf16"]


def reading(scraper: Scraper) -> TierReading:
    found = state(scraper).reading
    assert isinstance(found, TierReading)
    return found


def test_rates_over_a_minute_are_those_of_the_traffic() -> None:
    world, scraper = watched(scenario(poisson(8.0, 300.0), initial={"bf16": 2}), 180.0)
    seen = reading(scraper)
    arrivals = world.fleet.state.requests.arrival_s
    truth = ((arrivals > 115) & (arrivals < 175)).sum() / 60
    assert seen.arrival_rps == pytest.approx(truth, rel=0.15)
    assert seen.completion_rps == pytest.approx(truth, rel=0.15)
    assert seen.age_s == pytest.approx(5.0)
    assert seen.replicas_reporting == 2
    assert seen.prompt_tokens_mean == pytest.approx(500 * np.exp(0.18), rel=0.1)
    assert 0 < (seen.gpu_utilization or 0) <= 1
    assert seen.power_w is not None
    assert seen.power_w > 2 * 300


def test_histograms_count_requests_and_gaps_of_the_window() -> None:
    _, scraper = watched(scenario(poisson(8.0, 300.0)), 180.0)
    seen = reading(scraper)
    assert seen.ttft is not None
    assert seen.itl is not None
    assert seen.ttft.total == pytest.approx(8.0 * 60, rel=0.15)
    assert seen.itl.total == pytest.approx((seen.output_tokens_per_s or 0) * 60 - seen.ttft.total, rel=0.05)
    assert seen.ttft_mean_s == pytest.approx(seen.ttft.quantile(0.5), rel=0.8)
    share = seen.ttft.share_at_most(1.0)
    assert share is not None
    assert share[0] == share[1], "a target is an edge, so the share is exact"


def test_a_queue_that_grows_is_demand_too() -> None:
    _, scraper = watched(scenario(poisson(60.0, 300.0)), 120.0)
    seen = reading(scraper)
    assert seen.completion_rps is not None
    assert seen.completion_rps < 40
    assert seen.arrival_rps == pytest.approx(60.0, rel=0.1)


def test_a_cached_prefix_counts_in_the_hit_rate_and_in_the_length_of_a_prompt() -> None:
    whole = traffic(np.arange(0.0, 120.0, 0.5).tolist(), prompt=400, output=10)
    _, scraper = watched(scenario(replace(whole, hit_tokens=whole.prompt_tokens // 4)), 120.0)
    seen = reading(scraper)
    assert seen.prefix_cache_hit_rate == pytest.approx(0.25)
    assert seen.prompt_tokens_mean == pytest.approx(400)


def test_gauges_of_a_pod_are_its_last_ones_and_the_largest_of_the_minute() -> None:
    """Two hundred requests just before one scrape, all of them done before the next one."""
    _, scraper = watched(scenario(traffic([39.99] * 200)), 60.0)
    (pod,) = scraper.gauges(BF16)
    assert (pod.running, pod.waiting, pod.kv_usage) == (0, 0, 0.0)
    assert pod.waiting_max > 100
    assert pod.kv_usage_max > 0.01


def test_pods_without_a_place_and_pods_on_their_way_out_are_told_apart() -> None:
    busy = traffic([0.0] * 4, output=5000)
    world, scraper = watched(scenario(busy, initial={"bf16": 2}, capacity=3), 30.0)
    world.want({BF16: 5})
    assert (state(scraper).ready, state(scraper).starting, state(scraper).unschedulable) == (2, 3, 2)
    world.want({BF16: 1})
    assert (state(scraper).ready, state(scraper).starting, state(scraper).terminating) == (1, 0, 1)


def test_after_one_scrape_gauges_are_known_and_rates_are_not() -> None:
    _, scraper = watched(scenario(poisson(8.0, 300.0)), 15.0)
    seen = reading(scraper)
    assert seen.arrival_rps is None
    assert seen.ttft is None
    assert seen.running is not None


def test_a_tier_without_replicas_is_missing_and_not_zero() -> None:
    world, scraper = watched(scenario(poisson(2.0, 300.0)), 100.0)
    world.want({BF16: 0})
    world.advance(200.0)
    scraper.scrape()
    assert state(scraper).ready == 0
    assert state(scraper).reading == Missing(reason="NoReplicas")


def test_when_prometheus_is_down_replicas_are_still_counted_but_nothing_is_read() -> None:
    fault = Fault(trouble=Trouble.NO_METRICS, start_s=100.0, end_s=200.0)
    _, scraper = watched(scenario(poisson(2.0, 300.0), faults=(fault,)), 150.0)
    assert state(scraper).ready == 1
    assert isinstance(state(scraper).reading, Missing)
    assert scraper.observe().deployments[KEY].gateway is None


def test_the_gateway_counts_arrivals_and_its_queue_when_nothing_runs() -> None:
    world, scraper = watched(scenario(poisson(4.0, 300.0)), 100.0)
    world.want({BF16: 0})
    for now in (115.0, 130.0, 145.0, 160.0):
        world.advance(now)
        scraper.scrape()
    gateway = scraper.observe().deployments[KEY].gateway
    assert gateway is not None
    assert gateway.arrival_rps == pytest.approx(4.0, rel=0.25)
    assert gateway.queued > 100


def test_starting_pods_are_counted_and_their_last_start_up_is_reported() -> None:
    world, scraper = watched(scenario(poisson(4.0, 300.0)), 30.0)
    world.want({BF16: 3})
    scraper.scrape()
    assert (state(scraper).ready, state(scraper).starting) == (1, 2)
    assert state(scraper).startup_s is None
    world.advance(120.0)
    scraper.scrape()
    assert state(scraper).ready == 3
    assert state(scraper).startup_s == pytest.approx(61.0)
