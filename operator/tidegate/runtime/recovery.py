"""
Restores what was known before a restart: saved memory, and from Prometheus the demand since then (or of a week).

In:    the keeper, the planner, a client with long timeouts.
Out:   memory in the planner; periodic saves.
Rules: a Prometheus that does not answer delays nothing: planning goes on, and the history is added when it arrives. It
       is read in groups, and only one group is held at a time. A history that is too large for the server keeps no
       other from being read. Memory belongs to one object (uid); a later object of the same name does not get it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tidegate import forecast
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.memory import FleetMemory
from tidegate.observe.activation import may_be_its_own
from tidegate.observe.cluster import Cluster
from tidegate.observe.history import STEP_S, Workload, groups, read_history
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect
from tidegate.observe.threads import in_thread
from tidegate.ports import ApiError, Fence
from tidegate.report.metrics import Metrics
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.keeper import Keeper, Saved
from tidegate.runtime.planner import Planner
from tidegate.units import SECONDS_PER_DAY

log = logging.getLogger(__name__)

# Interval of checks for new deployments, and the delay before a failed read of history is retried.
LOOK_S = 15.0
RETRY_S = 300.0


@dataclass(slots=True, kw_only=True)
class Recovery:
    """
    Fills the planner's memory.

    Args:
        client: With long timeouts: a day of history is a large answer.
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
    _saved: dict[Key, Saved] = field(default_factory=dict)
    _done: dict[Key, str] = field(default_factory=dict)
    # Members of groups that failed, for which any of them may be the cause: each is read alone.
    _apart: set[Key] = field(default_factory=set)

    async def load(self) -> None:
        """Load saved memory and the uids it belongs to into the planner, before its first tick."""
        self._saved = await self.keeper.load()
        self.planner.memory = FleetMemory(deployments={key: saved.memory for key, saved in self._saved.items()})
        self.planner.uids = {key: saved.uid for key, saved in self._saved.items()}

    async def run(self) -> None:
        """Read back the demand of deployments whose past is unknown, until cancelled."""
        while self.days > 0:
            fresh = self._fresh()
            pause_s = LOOK_S
            if fresh:
                try:
                    await self._read(fresh)
                    self._done |= fresh
                except SourceError as error:
                    log.debug("cannot read the demand history: %s", error)
                    pause_s = RETRY_S
            await asyncio.sleep(pause_s)

    def _fresh(self) -> dict[Key, str]:
        """Objects known to the planner whose past has not been read yet, uid by key; drops memory of other objects."""
        specs = self.inventory.specs()
        uids = {key: uid for key, uid in self.planner.uids.items() if key in specs}
        self._saved = {key: saved for key, saved in self._saved.items() if uids.get(key) == saved.uid}
        self._done = {key: uid for key, uid in self._done.items() if uids.get(key) == uid}
        fresh = {key: uid for key, uid in uids.items() if key not in self._done}
        self._apart &= fresh.keys()
        return fresh

    async def _read(self, uids: Mapping[Key, str]) -> None:
        """
        Read the past of these deployments, group by group; each group is marked as done once it was read.

        Raises:
            SourceError: the server is down; or, after all groups, why one of them could not be read.
        """
        specs, now_s = self.inventory.specs(), self.wall()
        owners = self.cluster.owners(specs[key] for key in uids if key in specs)
        since_s = {key: self._known_until(key, now_s) for key in uids}
        gaps = {name: key for name, key in owners.items() if now_s - since_s[key] >= 2 * STEP_S}
        failure: SourceError | None = None
        for group in groups(gaps, since_s, apart=self._apart):
            try:
                rebuilt = await self._read_group(group, min(since_s[key] for key in group.values()))
            except SourceError as error:
                if not may_be_its_own(error):
                    raise
                self._apart, failure = self._apart | set(group.values()), error
                continue
            # A deployment recreated under the same name meanwhile has another uid, and is read next time.
            self.planner.offer(
                {key: known for key, known in rebuilt.items() if self.planner.uids.get(key) == uids[key]}
            )
            self._done |= {key: uids[key] for key in group.values()}
        if failure is not None:
            raise failure

    async def _read_group(self, owners: Mapping[Workload, Key], start_s: float) -> dict[Key, forecast.ForecastMemory]:
        saved = {key: self._saved[key].memory.forecast for key in owners.values() if key in self._saved}
        curves = await read_history(self.client, self.dialect, owners, start_s=start_s, end_s=self.wall())

        def build() -> dict[Key, forecast.ForecastMemory]:
            return {key: forecast.backfill(saved.get(key), history=curve) for key, curve in curves.items()}

        # A week takes a quarter of a second of CPU time per deployment: in a thread, and outside of ticks.
        return await in_thread(build)

    def _known_until(self, key: Key, now_s: float) -> float:
        """The instant up to which saved memory knows the demand; `days` ago if it knows none."""
        saved = self._saved.get(key)
        known_s = saved.memory.forecast.time_s if saved is not None and saved.memory.forecast is not None else None
        oldest_s = now_s - self.days * SECONDS_PER_DAY
        return max(known_s or oldest_s, oldest_s)


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
        """Save now; if the server does not answer, it is retried next time."""
        if not self.fence.holds() or self.planner.ticks == 0:
            return
        there = {key: resource.uid for key, resource in self.inventory.deployments.items()}
        # The memory is that of the last tick: a deployment recreated under the same name since then has none yet.
        uids = {key: uid for key, uid in self.planner.uids.items() if there.get(key) == uid}
        try:
            size = await self.keeper.save(self.planner.memory, uids)
        except ApiError as error:
            log.warning("cannot save the memory: %s", error)
        else:
            self.metrics.memory_bytes.set(size)
