"""
What a restart needs before it can know what it knew: saved memory, and the demand since (or of a week) from Prometheus.

In:    the keeper, the planner, a client for long questions.
Out:   memory in the planner; a save now and then.
Rules: a Prometheus that does not answer delays nothing: planning goes on and takes the past in when it comes.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tidegate import forecast
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.observe.cluster import Cluster
from tidegate.observe.history import STEP_S, Curve, read_history
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect
from tidegate.ports import ApiError, Fence
from tidegate.report.metrics import Metrics
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.keeper import Keeper
from tidegate.runtime.planner import Planner
from tidegate.units import SECONDS_PER_DAY

log = logging.getLogger(__name__)

# How often new deployments are looked for, and when a past that could not be read is asked for again.
LOOK_S = 15.0
RETRY_S = 300.0


@dataclass(slots=True, kw_only=True)
class Recovery:
    """
    Fills the planner's memory.

    Args:
        client: Its limits are long: a day of history is a large answer.
        days: How far back to read; 0: not at all.
        wall: Unix seconds.
    """

    keeper: Keeper
    planner: Planner
    inventory: FleetInventory
    cluster: Cluster
    client: Prometheus
    dialect: Dialect
    days: float
    wall: Callable[[], float]
    _saved: dict[Key, DeploymentMemory] = field(default_factory=dict)
    _done: set[Key] = field(default_factory=set)

    async def load(self) -> None:
        """Saved memory into the planner; before its first tick."""
        self._saved = await self.keeper.load()
        self.planner.memory = FleetMemory(deployments=self._saved)

    async def run(self) -> None:
        """Read back the demand of deployments whose past is not known, until cancelled."""
        while self.days > 0:
            specs = self.inventory.specs()
            self._done &= specs.keys()
            fresh = specs.keys() - self._done
            pause_s = LOOK_S
            if fresh:
                try:
                    await self._read(fresh)
                    self._done |= fresh
                except SourceError as error:
                    log.debug("history: %s", error)
                    pause_s = RETRY_S
            await asyncio.sleep(pause_s)

    async def _read(self, keys: set[Key]) -> None:
        specs = self.inventory.specs()
        owners = self.cluster.owners(specs[key] for key in keys if key in specs)
        now_s = self.wall()
        start_s = min((self._known_until(key, now_s) for key in keys), default=now_s)
        if not owners or now_s - start_s < 2 * STEP_S:
            return
        curves = await read_history(self.client, self.dialect, owners, start_s=start_s, end_s=now_s)
        self.planner.offer({key: partial(self._rebuilt, key, curve) for key, curve in curves.items()})

    def _known_until(self, key: Key, now_s: float) -> float:
        """The instant up to which saved memory knows the demand; days ago where it knows none."""
        saved = self._saved.get(key)
        known_s = saved.forecast.time_s if saved is not None and saved.forecast is not None else None
        oldest_s = now_s - self.days * SECONDS_PER_DAY
        return max(known_s or oldest_s, oldest_s)

    def _rebuilt(self, key: Key, curve: Curve) -> forecast.ForecastMemory:
        saved = self._saved.get(key)
        return forecast.backfill(saved.forecast if saved is not None else None, history=curve)


@dataclass(slots=True, kw_only=True)
class Saver:
    """Saves the planner's memory every `period_s` while leading, and once more at the end."""

    keeper: Keeper
    planner: Planner
    inventory: FleetInventory
    fence: Fence
    metrics: Metrics
    period_s: float

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await asyncio.sleep(self.period_s)
            await self.save()

    async def save(self) -> None:
        """Save now; a server that does not answer is tried again next time."""
        if not self.fence.holds() or self.planner.ticks == 0:
            return
        try:
            size = await self.keeper.save(self.planner.memory, self.inventory.specs().keys())
        except ApiError as error:
            log.warning("memory is not saved: %s", error)
        else:
            self.metrics.memory_bytes.set(size)
