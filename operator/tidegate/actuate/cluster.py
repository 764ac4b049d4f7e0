"""
Sends what `steps` computed to the API server.

In:    an `Order`.
Out:   an `Outcome`; an error ends its own chain of writes and is reported, never raised.
Rules: the fence is checked before each write, and an order ends with the leadership under which it came. A new
       leadership starts without memory, as after a restart: another process may have acted in between.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tidegate.actuate.findings import limited, stalled
from tidegate.actuate.scene import Chain, Write
from tidegate.actuate.steps import steps
from tidegate.actuate.stock import REMEMBERED, Stock
from tidegate.domain.decision import Condition
from tidegate.errors import SourceError
from tidegate.ports import APPLY_PATCH, ApiError, Call, Fence, KubeApi, Order, Outcome

log = logging.getLogger(__name__)

NOT_LEADER = SourceError(source="lease", reason="NotLeader", detail="another replica of the operator leads now")
# The server understood the write and refused it: sending the same again will not help.
_REJECTIONS = frozenset({400, 403, 409, 422})
# Answers of status 500 to an apply that are about the object: an unknown field, a number where text is needed, a
# malformed quantity.
_WRONG_SHAPE = re.compile("failed to create typed patch object|unable to convert unstructured object")
# An answer of status 422 to a patch whose test failed: the object is not as it was seen.
_OUTDATED = "the server rejected our request due to an error in our request"
# A refused write is retried after this: a permission may have been granted, or a quota raised.
REFUSED_S = 60.0
# Failed orders in a row before it is reported: a conflict or a restart of the server is over by then.
FAILURES_REPORTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """A write that the server refused, why, and until when it is not retried, in monotonic seconds."""

    call: Call
    fault: ApiError
    until_s: float


@dataclass(slots=True)
class _Sent:
    """Results of an order's writes: the accepted ones, the errors, and those of them that are lasting."""

    writes: list[Write] = field(default_factory=list)
    errors: list[SourceError] = field(default_factory=list)
    refusals: list[ApiError] = field(default_factory=list)

    @property
    def failure(self) -> SourceError | None:
        """The first error that a retry may not meet; None: there was none, or leadership was lost."""
        return next((e for e in self.errors if e is not NOT_LEADER and e not in self.refusals), None)


class ClusterActuator:
    """
    Carries out orders on a real API server.

    Args:
        api: Connection.
        fence: Who may write.
        wall: Unix seconds.
        clock: Monotonic seconds.
        monitor_labels: Extra labels of the PodMonitors that are created.
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
        self._failures: dict[str, int] = {}

    async def carry_out(self, order: Order, goes_on: Callable[[], bool] = lambda: True) -> Outcome:
        """Write what differs from what is wanted, and nothing else; at least one chain, the others while it goes on."""
        epoch = self._fence.epoch
        if epoch != self._epoch:
            self._epoch, self._stock = epoch, Stock(monitor_labels=self._monitor_labels)
        seen_s = min(order.view.seen_s, self._clock())
        todo = steps(self._stock.scene(order, now_s=self._wall(), clock_s=seen_s))
        sent = _Sent()
        for chain in todo.chains:
            if not await self._send(chain, epoch, sent) or not goes_on():
                break
        rejected = [stalled("WorkloadRejected", refusal.detail) for refusal in sent.refusals[:1]]
        scaled = {write.tier: write.replicas for write in sent.writes if write.replicas is not None}
        return Outcome(
            actions=tuple(write.sentence for write in sent.writes if write.sentence),
            conditions=(*rejected, *self._failing(order, sent.failure), *todo.conditions),
            errors=tuple(sent.errors),
            asked=self._stock.ask(order, {**todo.rests, **scaled}),
        )

    async def _send(self, chain: Chain, epoch: int, sent: _Sent) -> bool:
        """Send one chain; False if nothing may be written any more."""
        for write in chain:
            if not self._fence.holds() or self._fence.epoch != epoch:
                sent.errors.append(NOT_LEADER)
                return False
            # A known refusal is reported again, without repeating the write at each tick.
            fault = self._refusal(write.call) or await self._try(write.call)
            if fault is not None:
                sent.errors.append(fault)
                sent.refusals += [fault] if _is_lasting(fault, write.call) else []
                return True
            self._stock.wrote(write, clock_s=self._clock())
            sent.writes.append(write)
        return True

    async def _try(self, call: Call) -> ApiError | None:
        """Send one write; returns why the server refused it, or None."""
        try:
            await self._api.send(call)
        except ApiError as fault:
            if _is_lasting(fault, call):
                self._remember(call, fault)
            return fault
        return None

    def _failing(self, order: Order, failure: SourceError | None) -> tuple[Condition, ...]:
        """The condition that writes fail repeatedly; none while it may be chance."""
        uid = order.resource.uid
        if failure is None:
            self._failures.pop(uid, None)
            return ()
        if len(self._failures) >= REMEMBERED:
            self._failures.clear()
        met = self._failures[uid] = self._failures.get(uid, 0) + 1
        if met < FAILURES_REPORTED:
            return ()
        if met == FAILURES_REPORTED:
            log.warning("a write keeps failing: %s", failure, extra={"deployment": str(order.resource.key)})
        message = f"the API server does not accept the change: {failure.detail or failure.reason}"
        return (limited("WriteFailed", message),)

    def _refusal(self, call: Call) -> ApiError | None:
        """Why the server recently refused exactly this write; None if it may be sent."""
        known = self._refused.get(call.path)
        return known.fault if known is not None and known.call == call and self._clock() < known.until_s else None

    def _remember(self, call: Call, fault: ApiError) -> None:
        now_s = self._clock()
        # Each holds a whole manifest, and most expired ones are of deleted objects.
        self._refused = {path: known for path, known in self._refused.items() if now_s < known.until_s}
        self._refused[call.path] = _Refusal(call=call, fault=fault, until_s=now_s + REFUSED_S)


def _is_lasting(fault: ApiError, call: Call) -> bool:
    """
    Whether the same write would be refused again. A conflict is lasting only for an apply: fields belong to somebody
    else. An outdated view is replaced by the next one.
    """
    if fault.status == 500:
        return _WRONG_SHAPE.search(fault.detail) is not None
    if _OUTDATED in fault.detail:
        return False
    return fault.status in _REJECTIONS and (fault.status != 409 or call.content_type == APPLY_PATCH)
