"""
The hands on the API server: sends what `steps` wrote down.

In:    an `Order`.
Out:   an `Outcome`; an error ends its own chain of writes and is reported, never raised.
Rules: the fence is asked before each write, and an order ends with the leadership under which it came.
"""

import time
from collections.abc import Callable, Mapping

from tidegate.actuate.scene import Chain
from tidegate.actuate.steps import steps
from tidegate.actuate.stock import Stock
from tidegate.domain.decision import Condition, Status
from tidegate.errors import SourceError
from tidegate.ports import ApiError, Fence, KubeApi, Order, Outcome

NOT_LEADER = SourceError(source="lease", reason="NotLeader", detail="another replica of the operator leads now")
# The server understood and says no: sending the same again will not help.
_REJECTIONS = frozenset({400, 403, 409, 422})


class ClusterActuator:
    """
    Carries out orders on a real API server.

    Args:
        api: Connection.
        fence: Who may write.
        clock: Unix seconds.
        monitor_labels: More labels of the PodMonitors that are made.
    """

    def __init__(
        self,
        api: KubeApi,
        fence: Fence,
        *,
        clock: Callable[[], float] = time.time,
        monitor_labels: Mapping[str, str] | None = None,
    ) -> None:
        self._api, self._fence, self._clock = api, fence, clock
        self._stock = Stock(monitor_labels=monitor_labels or {})

    async def carry_out(self, order: Order) -> Outcome:
        """Write what differs from what is wanted, and nothing else."""
        epoch = self._fence.epoch
        todo = steps(self._stock.scene(order, now_s=self._clock()))
        actions: list[str] = []
        errors: list[SourceError] = []
        for chain in todo.chains:
            if not await self._send(chain, epoch, actions, errors):
                break
        rejected = tuple(_rejection(error) for error in errors if _is_rejection(error))[:1]
        return Outcome(actions=tuple(actions), conditions=(*rejected, *todo.conditions), errors=tuple(errors))

    async def _send(self, chain: Chain, epoch: int, actions: list[str], errors: list[SourceError]) -> bool:
        """Sends one chain; False where nothing may be written any more."""
        for write in chain:
            if not self._fence.holds() or self._fence.epoch != epoch:
                errors.append(NOT_LEADER)
                return False
            try:
                await self._api.send(write.call)
            except ApiError as fault:
                errors.append(fault)
                return True
            self._stock.wrote(write, now_s=self._clock())
            if write.sentence:
                actions.append(write.sentence)
        return True


def _is_rejection(error: SourceError) -> bool:
    return isinstance(error, ApiError) and error.status in _REJECTIONS


def _rejection(error: SourceError) -> Condition:
    return Condition(type="Stalled", status=Status.TRUE, reason="WorkloadRejected", message=error.detail)
