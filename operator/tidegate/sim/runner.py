"""
The closed loop: simulate until the next tick, scrape, let the policy decide, scale.

In:    a scenario and a policy.
Out:   a `Run`: the final state of the world, and one row per tick.
Rules: conservation of requests and Little's law are checked at the end of every run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tidegate.domain.key import Key
from tidegate.domain.spec import FleetPolicy
from tidegate.sim.metrics import Scraper
from tidegate.sim.pods import Life
from tidegate.sim.policies.base import Policy, View
from tidegate.sim.scenario import Scenario
from tidegate.sim.world import TierKey, World

# After the last tick, requests in flight get this long to finish, s, without scaling and without billing.
AFTERMATH_S = 600.0
# Ticks between two checks whether a run can still become the best of its name.
LOOK_TICKS = 20


@dataclass(slots=True, kw_only=True)
class Row:
    """One tick: replicas by tier, cost per hour, cumulative arrivals by deployment, and the reasons."""

    time_s: float
    ready: Mapping[TierKey, int]
    wanted: Mapping[TierKey, int]
    usd_per_hour: float
    arrived: tuple[int, ...]
    reasons: Mapping[Key, str]


@dataclass(slots=True, kw_only=True)
class Run:
    """What one policy did in one scenario; `cut` says why the run was aborted, empty if it was not."""

    scenario: Scenario
    policy: str
    world: World
    rows: list[Row] = field(default_factory=list)
    cut: str = ""


def run(
    scenario: Scenario,
    policy: Policy,
    *,
    progress: Callable[[float], None] | None = None,
    hopeless: Callable[[World], str] | None = None,
) -> Run:
    """
    One closed-loop run.

    Args:
        progress: Called after each tick with the share of the run that is done, in [0, 1].
        hopeless: Called every `LOOK_TICKS`; a non-empty result is the reason to abort the run.
    """
    world = World(scenario)
    scraper = Scraper(world)
    result = Run(scenario=scenario, policy=policy.name, world=world)
    ticks = int(np.ceil(scenario.duration_s / scenario.tick_s))
    scraped_s = -scenario.scrape_age_s
    for tick in range(1, ticks + 1):
        now = min(tick * scenario.tick_s, scenario.duration_s)
        while scraped_s + scenario.scrape_s <= now - scenario.scrape_age_s:
            scraped_s += scenario.scrape_s
            world.advance(scraped_s)
            scraper.scrape()
        world.advance(now)
        choice = policy.decide(_view(scenario, world, scraper))
        world.want(choice.replicas)
        result.rows.append(_row(world, choice.reasons))
        if progress is not None:
            progress(tick / ticks)
        if hopeless is not None and tick % LOOK_TICKS == 0:
            result.cut = hopeless(world)
            if result.cut:
                return result
    world.fleet.check()
    world.finish(AFTERMATH_S)
    return result


def fleet_policy(scenario: Scenario, world: World) -> FleetPolicy:
    """The users' specs, with the current prices and capacities."""
    accelerators = {
        name: replace(
            pool.accelerator,
            price_usd_per_hour=world.market.price_usd(name, world.time_s),
            capacity=world.market.capacity(name, world.time_s),
        )
        for name, pool in scenario.pools.items()
    }
    return FleetPolicy(deployments={s.spec.key: s.spec for s in scenario.services}, accelerators=accelerators)


def _view(scenario: Scenario, world: World, scraper: Scraper) -> View:
    return View(
        time_s=world.time_s,
        observation=scraper.observe(),
        policy=fleet_policy(scenario, world),
        wanted=dict(world.wanted),
        gauges=scraper.gauges,
        history={
            s.spec.key: [(scenario.start_s + second, rate) for second, rate in s.history] for s in scenario.services
        }
        if world.time_s <= scenario.tick_s
        else {},
    )


def _row(world: World, reasons: Mapping[Key, str]) -> Row:
    ready = dict.fromkeys(world.tiers, 0)
    for pod in world.live:
        if pod.life is Life.READY:
            ready[world.tiers[pod.tier]] += 1
    return Row(
        time_s=world.time_s,
        ready=ready,
        wanted=dict(world.wanted),
        usd_per_hour=world.usd_per_hour(),
        arrived=tuple(int(n) for n in world.fleet.state.front.arrived),
        reasons=reasons,
    )
