"""
The only way to write: rate-limited, and as leader only.

In:    a connection, a fence, a rate.
Out:   `KubeApi` that passes reads, and writes while the fence holds and the bucket has tokens.
Rules: the fence is checked last, right before the write, after any waiting. A write that waited through a change of
       leadership is not made.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from tidegate.ports import ApiError, Call, Fence, KubeApi

# A write starts at most 8 s after the last renewal, so it has ended, either way, after 13 s. Nobody else takes the
# Lease before 15 s.
WRITE_S_MAX = 5.0


class Bucket:
    """
    A token bucket: `rate_per_s` on average, bursts of twice as many.

    Args:
        rate_per_s: Tokens per second, > 0.
        clock: Monotonic seconds.
    """

    def __init__(self, rate_per_s: float, *, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate_per_s, clock
        self._tokens, self._filled_s = 2.0 * rate_per_s, clock()

    def wait_s(self) -> float:
        """Take a token; returns the seconds to wait until it is available."""
        now_s = self._clock()
        self._tokens = min(2.0 * self._rate, self._tokens + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._rate)


class FencedApi:
    """
    Implements `KubeApi`.

    Args:
        api: The connection.
        fence: Who may write.
        bucket: Limits the rate.
        in_flight_max: Concurrent writes.
    """

    def __init__(self, api: KubeApi, fence: Fence, bucket: Bucket, *, in_flight_max: int = 8) -> None:
        self._api, self._fence, self._bucket = api, fence, bucket
        self._slots = asyncio.Semaphore(in_flight_max)

    async def send(self, call: Call) -> dict[str, Any]:
        """The answer; reason `NotLeader` for a write that may no longer start."""
        if call.method == "GET":
            return await self._api.send(call)
        epoch = self._fence.epoch
        async with self._slots:
            await asyncio.sleep(self._bucket.wait_s())
            if not self._fence.holds() or self._fence.epoch != epoch:
                raise ApiError(
                    status=0,
                    reason="NotLeader",
                    detail=f"{call.method} {call.path}: this process does not lead any more",
                )
            return await self._api.send(replace(call, timeout_s=min(call.timeout_s, WRITE_S_MAX)))

    def watch(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """Watches only read, so they pass."""
        return self._api.watch(call)
