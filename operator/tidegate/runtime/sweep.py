"""
What really exists: a cheap list now and then, against what the handlers brought.

In:    the API server.
Out:   ghosts dropped from the inventory; since when it has been behind.
Rules: metadata only, in pages. kopf does not tell of a deletion it missed while its watch was down; this does. What was
       listed and deleted before kopf first listed never arrives, so what is behind is looked for again soon.
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
# While something that was listed has not arrived.
AGAIN_S = 3.0
PAGE = 500


@dataclass(slots=True, kw_only=True)
class Sweeper:
    """
    Sweeps on start and every ten minutes; every few seconds while the inventory is behind.

    Args:
        namespace: The only one served; None: all.
        clock: Monotonic seconds.
        swept_s: When a sweep last succeeded, by the clock; None: none did, or another one is asked for.
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
        """Sweep at the next look."""
        self.swept_s = None

    async def look(self) -> None:
        """Sweep where it is time to, or where something is missing: it may be gone by now."""
        now_s, behind = self.clock(), self.inventory.behind()
        if not behind:
            self.behind_s = None
        elif self.behind_s is None:
            self.behind_s = now_s
        if behind or self.swept_s is None or now_s - self.swept_s >= PERIOD_S:
            try:
                await self.sweep()
            except ApiError as error:
                log.debug("sweep: %s", error)

    async def sweep(self) -> None:
        """
        Once.

        Raises:
            ApiError: the server did not answer.
            SpecError: our CRDs are not installed.
        """
        before = self.inventory.uids()
        scope = f"/namespaces/{self.namespace}" if self.namespace else ""
        deployments = await self._list(f"/apis/{GROUP}/{VERSION}{scope}/{DEPLOYMENTS}")
        accelerators = await self._list(f"/apis/{GROUP}/{VERSION}/{ACCELERATORS}")
        ghosts = self.inventory.sweep(deployments, accelerators, before=before)
        self.swept_s = self.clock()
        if ghosts:
            log.info("dropped resources whose deletion was missed", extra={"count": ghosts})

    async def _list(self, path: str) -> dict[tuple[str, str], tuple[str, int]]:
        found: dict[tuple[str, str], tuple[str, int]] = {}
        params = {"limit": str(PAGE)}
        while True:
            try:
                page = await self.api.send(Call(method="GET", path=path, params=params, accept=METADATA_ONLY))
            except ApiError as error:
                if error.status == 404:
                    raise SpecError(
                        field=path, value="404", allowed="the CRDs have to be installed: kubectl apply -f crds/"
                    ) from error
                raise
            for item in page.get("items") or ():
                meta = item["metadata"]
                found[meta.get("namespace", ""), meta["name"]] = (meta["uid"], meta.get("generation", 0))
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            params["continue"] = token
