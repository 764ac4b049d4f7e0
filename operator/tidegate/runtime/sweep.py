"""
Compares what exists with what the handlers delivered, by a cheap list from time to time.

In:    the API server.
Out:   deleted objects dropped from the inventory; since when the inventory has been behind.
Rules: metadata only, in pages. kopf does not report deletions that it missed while its watch was down; this does. An
       object that was listed here and deleted before kopf first listed never arrives, so a new list is made soon while
       anything is missing.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.errors import SpecError
from tidegate.ports import ACCELERATORS, DEPLOYMENTS, GROUP, METADATA_ONLY, VERSION, ApiError, Call, KubeApi
from tidegate.runtime.inventory import FleetInventory

log = logging.getLogger(__name__)

PERIOD_S = 600.0
# Interval while something that was listed has not arrived.
AGAIN_S = 3.0
PAGE = 500


@dataclass(slots=True, kw_only=True)
class Sweeper:
    """
    Sweeps at start and every ten minutes; every few seconds while the inventory is behind.

    Args:
        namespace: The only one served; None: all.
        clock: Monotonic seconds.
        swept_s: When a sweep last succeeded, by the clock; None: never, or another one is requested.
        behind_s: Since when something that was listed has not arrived; None: nothing is missing.
    """

    api: KubeApi
    inventory: FleetInventory
    namespace: str | None
    clock: Callable[[], float]
    swept_s: float | None = None
    behind_s: float | None = None

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(AGAIN_S)
            await self.look()

    def soon(self) -> None:
        """Request a sweep at the next look."""
        self.swept_s = None

    async def look(self) -> None:
        """Sweep if it is due or if something is missing, which may have been deleted."""
        now_s, behind = self.clock(), self.inventory.behind()
        if not behind:
            self.behind_s = None
        elif self.behind_s is None:
            self.behind_s = now_s
        if behind or self.swept_s is None or now_s - self.swept_s >= PERIOD_S:
            try:
                await self.sweep()
            except ApiError as error:
                log.debug("cannot list the custom resources: %s", error)

    async def sweep(self) -> None:
        """
        Sweep once.

        Raises:
            ApiError: the server did not answer.
            SpecError: our CRDs are not installed.
        """
        before = self.inventory.met()
        scope = f"/namespaces/{self.namespace}" if self.namespace else ""
        deployments = await self._list(f"/apis/{GROUP}/{VERSION}{scope}/{DEPLOYMENTS}")
        accelerators = await self._list(f"/apis/{GROUP}/{VERSION}/{ACCELERATORS}")
        ghosts = self.inventory.sweep(deployments, accelerators, before=before)
        self.swept_s = self.clock()
        if ghosts:
            log.info("dropped custom resources whose deletion had been missed", extra={"count": ghosts})

    async def _list(self, path: str) -> dict[tuple[str, str], tuple[str, int]]:
        found: dict[tuple[str, str], tuple[str, int]] = {}
        params = {"limit": str(PAGE)}
        while True:
            try:
                page = await self.api.send(Call(method="GET", path=path, params=params, accept=METADATA_ONLY))
            except ApiError as error:
                if error.status == 404:
                    raise SpecError(
                        field=path,
                        value=None,
                        allowed="not found; install the CRDs: kubectl apply --server-side -f crds/",
                    ) from error
                raise
            for item in page.get("items") or ():
                meta = item["metadata"]
                found[meta.get("namespace", ""), meta["name"]] = (meta["uid"], meta.get("generation", 0))
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            params["continue"] = token
