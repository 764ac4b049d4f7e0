"""
The hands on the API server: sends what `steps` wrote down.

In:    an `Order`.
Out:   an `Outcome`; an error ends its own chain of writes and is reported, never raised.
Rules: the fence is asked before each write, and an order ends with the leadership under which it came. Another
       leadership begins with nothing in mind, as after a restart: somebody else may have acted in between.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidegate.actuate.scene import Chain, Write
from tidegate.actuate.steps import steps
from tidegate.actuate.stock import REMEMBERED, Stock
from tidegate.domain.decision import Condition, Status
from tidegate.errors import SourceError
from tidegate.ports import APPLY_PATCH, ApiError, Call, Fence, KubeApi, Order, Outcome

NOT_LEADER = SourceError(source="lease", reason="NotLeader", detail="another replica of the operator leads now")
# The server understood and says no: sending the same again will not help.
_REJECTIONS = frozenset({400, 403, 409, 422})
# The same is sent again so seldom: somebody may have granted a right, or raised a quota.
REFUSED_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """A write that the server refused, why, and until when it is not tried again; monotonic seconds."""

    call: Call
    fault: ApiError
    until_s: float


class ClusterActuator:
    """
    Carries out orders on a real API server.

    Args:
        api: Connection.
        fence: Who may write.
        wall: Unix seconds.
        clock: Monotonic seconds.
        monitor_labels: More labels of the PodMonitors that are made.
    """

    def __init__(
        self,
        api: KubeApi,
        fence: Fence,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        monitor_labels: Mapping[str, str] | None = None,
    ) -> None:
        self._api, self._fence, self._wall, self._clock = api, fence, wall, clock
        self._monitor_labels = monitor_labels or {}
        self._stock = Stock(monitor_labels=self._monitor_labels)
        self._epoch = fence.epoch
        self._refused: dict[str, _Refusal] = {}

    async def carry_out(self, order: Order) -> Outcome:
        """Write what differs from what is wanted, and nothing else."""
        epoch = self._fence.epoch
        if epoch != self._epoch:
            self._epoch, self._stock = epoch, Stock(monitor_labels=self._monitor_labels)
        todo = steps(self._stock.scene(order, now_s=self._wall(), clock_s=self._clock()))
        sent: list[Write] = []
        errors: list[SourceError] = []
        for chain in todo.chains:
            if not await self._send(chain, epoch, sent, errors):
                break
        rejected = tuple(_rejection(error) for error in errors if _is_rejection(error))[:1]
        scaled = {write.tier: write.replicas for write in sent if write.replicas is not None}
        return Outcome(
            actions=tuple(write.sentence for write in sent if write.sentence),
            conditions=(*rejected, *todo.conditions),
            errors=tuple(errors),
            asked=self._stock.ask(order.resource, {**todo.rests, **scaled}),
        )

    async def _send(self, chain: Chain, epoch: int, sent: list[Write], errors: list[SourceError]) -> bool:
        """Sends one chain; False where nothing may be written any more."""
        for write in chain:
            if not self._fence.holds() or self._fence.epoch != epoch:
                errors.append(NOT_LEADER)
                return False
            if (known := self._refusal(write.call)) is not None:
                errors.append(known)  # told on, and not asked again at each tick
                return True
            try:
                await self._api.send(write.call)
            except ApiError as fault:
                errors.append(fault)
                self._remember(write.call, fault)
                return True
            self._stock.wrote(write, clock_s=self._clock())
            sent.append(write)
        return True

    def _refusal(self, call: Call) -> ApiError | None:
        """Why the server refused exactly this not long ago; None where it may be sent."""
        known = self._refused.get(call.path)
        return known.fault if known is not None and known.call == call and self._clock() < known.until_s else None

    def _remember(self, call: Call, fault: ApiError) -> None:
        if not _is_lasting(fault, call):
            return
        if len(self._refused) >= REMEMBERED:
            self._refused.clear()  # most are of objects that are gone; what is not is asked once more
        self._refused[call.path] = _Refusal(call=call, fault=fault, until_s=self._clock() + REFUSED_S)


def _is_lasting(fault: ApiError, call: Call) -> bool:
    """A refusal that the same write meets again; a conflict is one where fields belong to somebody else."""
    return fault.status in _REJECTIONS and (fault.status != 409 or call.content_type == APPLY_PATCH)


def _is_rejection(error: SourceError) -> bool:
    return isinstance(error, ApiError) and error.status in _REJECTIONS


def _rejection(error: SourceError) -> Condition:
    return Condition(type="Stalled", status=Status.TRUE, reason="WorkloadRejected", message=error.detail)
