"""
Leader election: one holder of a Lease at a time, judged by this process's own monotonic clock.

In:    a Lease in the operator's namespace.
Out:   `Fence`: whether a write may start now, and the number of this leadership.
Rules: a leadership is trusted only until `RENEW_DEADLINE_S` after the last renewal was *sent*. So if the API server or
       the event loop hangs, or the process is paused, leadership ends by itself before another process may take the
       Lease. Wall-clock times in the Lease are for people and never compared.

    renewal sent      0 s
    writes end        8 s   no new ones start; the last ones have ended by 13 s (see `fenced`)
    leadership ends  10 s
    lease expires    15 s   as seen by the others, from when they saw the last renewal: at most 2.4 s later, and one
                            that looks at most every 2.4 s takes over by 20 s

`kubernetes.aio` also has an elector, but it cannot create a Lease, and it goes on leading while the API server hangs.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate.ports import ApiError, Call, KubeApi

log = logging.getLogger(__name__)

LEASE_S = 15.0
RENEW_DEADLINE_S = 10.0
RETRY_S = 2.0
# Failed tries in a row before a warning is logged.
FAILURES_LOGGED = 3
# Time limit for releasing the Lease at a stop.
RELEASE_S = 1.0
# No write starts in the last two seconds of a leadership.
WRITE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseName:
    """Where the Lease is, and our identity in it (unique per process)."""

    namespace: str
    name: str
    identity: str

    @property
    def collection(self) -> str:
        """Path of the Leases of the namespace."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"


class Elector:
    """
    Implements `Fence`.

    Args:
        api: Connection that is not itself fenced.
        lease: Which Lease.
        clock: Monotonic seconds.
        changed: Called on the event loop when leadership is gained or lost.
    """

    def __init__(
        self, api: KubeApi, lease: LeaseName, *, clock: Callable[[], float], changed: Callable[[], None] = lambda: None
    ) -> None:
        self._api, self._lease, self._clock, self.changed = api, lease, clock, changed
        self._renewed_s: float | None = None
        self._epoch = 0
        self._last: dict[str, Any] = {}
        self._known: dict[str, Any] = {}
        self._seen: tuple[object, ...] = ()
        self._seen_s = clock()
        self._announced = False
        self._failures = 0
        self.holder = ""

    @property
    def epoch(self) -> int:
        """The Lease's leaseTransitions of the current or last leadership."""
        return self._epoch

    @property
    def leads(self) -> bool:
        """True until the renew deadline."""
        return self._renewed_s is not None and self._clock() < self._renewed_s + RENEW_DEADLINE_S

    def holds(self) -> bool:
        """True while a write may start."""
        return self._renewed_s is not None and self._clock() < self._renewed_s + RENEW_DEADLINE_S - WRITE_S

    async def run(self) -> None:
        """Try to become and stay leader until cancelled; then release the Lease."""
        try:
            while True:
                await self._attempt()
                self._announce()
                await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))
        finally:
            await self._release()

    async def _attempt(self) -> None:
        """One try, which ends by the deadline of the current leadership."""
        left_s = RENEW_DEADLINE_S
        if self.leads and self._renewed_s is not None:
            left_s = max(0.5, self._renewed_s + RENEW_DEADLINE_S - self._clock())
        try:
            async with asyncio.timeout(left_s):
                await self._take_or_renew()
        except TimeoutError:
            # The write may have arrived nevertheless: our copy of the Lease is out of date.
            self._failed("no answer in time")
        except ApiError as error:
            # Another process was faster (409), or the server is down: the next try reads the Lease again.
            self._failed(str(error), harmless=error.status == 409)
        else:
            self._failures = 0

    def _failed(self, why: str, *, harmless: bool = False) -> None:
        self._last = {}
        self._failures += not harmless
        if self._failures == FAILURES_LOGGED:
            log.warning("cannot reach the Lease: %s", why, extra={"lease": self._lease.name})

    async def _take_or_renew(self) -> None:
        """Renew the Lease from our last copy. If it has changed since, read it at once and see whose it is."""
        if self.leads and self._last:
            try:
                await self._take(self._last)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
            else:
                return
        await self._take(await self._read())

    async def _take(self, lease: dict[str, Any]) -> None:
        """Write ourselves into the Lease, unless another process holds it."""
        # A deleted Lease still counts as held: its holder may not have noticed yet.
        spec = self._known = lease.get("spec") or self._known
        self.holder = spec.get("holderIdentity") or ""
        mine = self.holder == self._lease.identity
        if not mine and self.holder and not self._expired(spec):
            self._renewed_s = None
            return
        sent_s = self._clock()
        transitions = int(spec.get("leaseTransitions") or 0) + (0 if mine else 1)
        self._last = await self._write(lease, holder=self._lease.identity, transitions=transitions, duration_s=LEASE_S)
        self._renewed_s, self._epoch, self.holder = sent_s, transitions, self._lease.identity

    def _expired(self, spec: dict[str, Any]) -> bool:
        """No renewal has been seen for the duration that the holder stated."""
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_s = seen, self._clock()
        return self._clock() - self._seen_s > float(spec.get("leaseDurationSeconds") or LEASE_S)

    async def _read(self) -> dict[str, Any]:
        try:
            return await self._api.send(Call(method="GET", path=f"{self._lease.collection}/{self._lease.name}"))
        except ApiError as error:
            if error.status != 404:
                raise
            return {}

    async def _write(
        self, lease: dict[str, Any], *, holder: str, transitions: int, duration_s: float
    ) -> dict[str, Any]:
        """Create or replace the Lease. The resourceVersion of the copy makes a race end in 409."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = lease.get("spec") or {}
        acquired = before.get("acquireTime") if before.get("holderIdentity") == holder else now
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": lease.get("metadata") or {"name": self._lease.name, "namespace": self._lease.namespace},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": int(duration_s),
                "acquireTime": acquired,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
        if not lease:
            return await self._api.send(Call(method="POST", path=self._lease.collection, body=body))
        path = f"{self._lease.collection}/{self._lease.name}"
        return await self._api.send(Call(method="PUT", path=path, body=body))

    async def _release(self) -> None:
        """Release the Lease, so that the next leader need not wait until it expires."""
        if not self.leads:
            return
        self._renewed_s = None
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                try:
                    await self._hand_back(self._last or await self._read())
                except ApiError as error:
                    if error.status != 409:
                        raise
                    # A renewal was in flight when we were stopped, and has arrived.
                    await self._hand_back(await self._read())
        self._announce()

    async def _hand_back(self, lease: dict[str, Any]) -> None:
        """Release the Lease as it was read, if it is ours."""
        if (lease.get("spec") or {}).get("holderIdentity") == self._lease.identity:
            # The API server rejects a duration of 0.
            await self._write(lease, holder="", transitions=self._epoch, duration_s=1)

    def _announce(self) -> None:
        if self.leads == self._announced:
            return
        self._announced = self.leads
        log.info(
            "leading" if self.leads else "not leading",
            extra={"lease": self._lease.name, "epoch": self._epoch, "holder": self.holder},
        )
        self.changed()
