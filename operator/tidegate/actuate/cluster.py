"""
The hands on the API server: sends what `steps` wrote down.

In:    an `Order`.
Out:   an `Outcome`; an error ends its own chain of writes and is reported, never raised.
Rules: the fence is asked before each write.
"""

import time
from collections.abc import Callable

from tidegate.actuate.manifests import workload_ref
from tidegate.actuate.ownership import held_since, stranger
from tidegate.actuate.scene import PATIENCE_S, Chain, Scene, Sighting
from tidegate.actuate.steps import steps
from tidegate.actuate.stock import Stock
from tidegate.domain.decision import Condition, Status
from tidegate.errors import SourceError
from tidegate.ports import ApiError, Fence, KubeApi, Order, Outcome

NOT_LEADER = SourceError(source="lease", reason="NotLeader", detail="another replica of the operator leads now")
# The server understood and says no: sending the same again will not help.
# Writes that are remembered before the old ones are dropped.
WRITTEN_MOST = 10_000
MARKS_MOST = 100_000
_REJECTIONS = frozenset({400, 403, 409, 422})


class ClusterActuator:
    """
    Carries out orders on a real API server.

    Args:
        api: Connection.
        fence: Who may write.
        clock: Unix seconds.
    """

    def __init__(self, api: KubeApi, fence: Fence, *, clock: Callable[[], float] = time.time) -> None:
        self._api, self._fence, self._clock = api, fence, clock
        self._written: dict[str, tuple[float, int | None]] = {}
        self._stock = Stock()
        self._marks: dict[str, str] = {}
        self._seen: dict[Sighting, float] = {}

    async def carry_out(self, order: Order) -> Outcome:
        """Write what differs from what is wanted, and nothing else."""
        todo = steps(self._scene(order))
        actions: list[str] = []
        errors: list[SourceError] = []
        for chain in todo.chains:
            if not await self._send(chain, actions, errors):
                break
        rejected = tuple(_rejection(error) for error in errors if _is_rejection(error))[:1]
        return Outcome(actions=tuple(actions), conditions=(*rejected, *todo.conditions), errors=tuple(errors))

    def _scene(self, order: Order) -> Scene:
        now_s = self._clock()
        if len(self._marks) > MARKS_MOST:
            self._marks.clear()  # most of them are gone by now; the others are taken anew
        if len(self._seen) > MARKS_MOST:
            self._seen.clear()
        if len(self._written) > WRITTEN_MOST:
            self._written = {path: last for path, last in self._written.items() if now_s - last[0] < PATIENCE_S}
        scene = Scene(
            order=order,
            now_s=now_s,
            manifests=self._stock.manifests(order),
            owned=self._stock.owned(order),
            written=self._written,
            marks=self._marks,
            seen=self._seen,
        )
        self._look(scene)
        return scene

    def _look(self, scene: Scene) -> None:
        """Remembers who set which replicas when, and how our objects look while they are right."""
        for workload in scene.owned:
            if not scene.settles(workload.path):
                self._marks.setdefault(workload.path, workload.applied)
        for tier in scene.spec.tiers:
            workload_ = scene.workload(workload_ref(scene.spec, tier))
            writer = stranger(workload_) if workload_ is not None else None
            if workload_ is None or writer is None:
                continue
            sighting = (workload_.path, writer.manager, workload_.replicas)
            if sighting not in self._seen:
                # After a restart the status still knows since when.
                self._seen[sighting] = held_since(scene.order.resource.status) or scene.now_s

    async def _send(self, chain: Chain, actions: list[str], errors: list[SourceError]) -> bool:
        """Sends one chain; False where nothing may be written any more."""
        for write in chain:
            if not self._fence.holds():
                errors.append(NOT_LEADER)
                return False
            try:
                await self._api.send(write.call)
            except ApiError as fault:
                errors.append(fault)
                return True
            self._written[write.call.path] = self._clock(), write.replicas
            self._marks.pop(write.call.path, None)  # taken anew once the cluster shows the write
            if write.sentence:
                actions.append(write.sentence)
        return True


def _is_rejection(error: SourceError) -> bool:
    return isinstance(error, ApiError) and error.status in _REJECTIONS


def _rejection(error: SourceError) -> Condition:
    return Condition(type="Stalled", status=Status.TRUE, reason="WorkloadRejected", message=error.detail)
