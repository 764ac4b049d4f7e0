"""
kopf, embedded: it watches the custom resources and calls the handlers.

In:    credentials, and which resources are ours.
Out:   calls of an `Inventory` on the main event loop.
Rules: kopf runs in a thread with its own event loop, because when it ends it cancels every task of its loop, which on
       the main loop would be most of the operator. It gives up for good if the API server refuses a watch once
       (401, 403), returns 5xx for seven seconds, or something that is not JSON. It is then restarted with a back-off.
       Known resources stay known meanwhile.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import kopf
from kubernetes.aio.client import Configuration

from tidegate.domain.key import Key
from tidegate.handlers import make_registry, make_settings
from tidegate.observe.threads import in_thread
from tidegate.ports import FIELD_MANAGER, AcceleratorResource, DeploymentResource, Inventory
from tidegate.runtime.answers import Answer
from tidegate.runtime.kube import open_session

log = logging.getLogger(__name__)

# Back-off between restarts of kopf. It doubles, and is reset once kopf has run for longer than the longest pause.
PAUSE_MIN_S, PAUSE_MAX_S = 1.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Implements `Inventory` in kopf's thread: each call is made on the main loop, in order."""

    inventory: Inventory
    loop: asyncio.AbstractEventLoop

    def put_deployment(self, resource: DeploymentResource) -> None:
        """A new or changed deployment."""
        self._post(self.inventory.put_deployment, resource)

    def drop_deployment(self, key: Key, uid: str) -> None:
        """A deleted deployment."""
        self._post(self.inventory.drop_deployment, key, uid)

    def put_accelerator(self, resource: AcceleratorResource) -> None:
        """A new or changed class."""
        self._post(self.inventory.put_accelerator, resource)

    def drop_accelerator(self, name: str, uid: str) -> None:
        """A deleted class."""
        self._post(self.inventory.drop_accelerator, name, uid)

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(call, *arguments)


@dataclass(slots=True, kw_only=True)
class ResourceWatcher:
    """
    Watches until cancelled.

    Args:
        inventory: Where the resources go.
        configuration: Address and credentials.
        namespace: The only one watched; None: all.
        wants: Which deployments are ours, by their labels.
        resumed: Called when watching restarts: deletions in between are not reported.
    """

    inventory: Inventory
    configuration: Configuration
    namespace: str | None
    wants: Callable[[Mapping[str, str]], bool]
    resumed: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Watch until cancelled; restart kopf when it fails."""
        pause_s = PAUSE_MIN_S
        while True:
            began_s = time.monotonic()
            try:
                return await self._watch()
            except Exception as error:
                if time.monotonic() - began_s > PAUSE_MAX_S:
                    pause_s = PAUSE_MIN_S
                log.warning("cannot watch custom resources, retrying in %g s: %s", pause_s, _words(error))
            await asyncio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, 2.0 * pause_s)
            self.resumed()

    async def _watch(self) -> None:
        """Watch until cancelled; kopf is then told to end and given a moment. Raises what ended kopf."""
        quit_flag = threading.Event()
        logins = _Logins(self.configuration)
        registry = make_registry(
            Relay(inventory=self.inventory, loop=asyncio.get_running_loop()),
            login=logins.login,
            wants=self.wants,
        )

        async def watch() -> None:
            tasks = await kopf.spawn_tasks(
                registry=registry,
                settings=make_settings(),
                identity=cast(Any, FIELD_MANAGER),  # else kopf looks up the user's name, and the image's user has none
                clusterwide=not self.namespace,
                namespaces=[self.namespace] if self.namespace else [],
                standalone=True,
                stop_flag=quit_flag,
            )
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            quit_flag.set()  # a thread of kopf waits for it, and the end of the loop waits for that thread
            try:
                await _end_watches()
                await kopf.run_tasks(tasks)
            finally:
                await logins.close()
                await asyncio.sleep(0.02)  # closing connections takes a turn of the loop

        watching = asyncio.ensure_future(in_thread(lambda: asyncio.run(watch())))
        try:
            await asyncio.shield(watching)
        finally:
            quit_flag.set()
            await asyncio.wait({watching}, timeout=0.8)
            watching.cancel()


@dataclass(slots=True)
class _Logins:
    """
    Our own credentials in kopf's form, for one run of kopf.

    It asks again when they are refused. The same session then tells it that there are no others.
    """

    configuration: Configuration
    sessions: dict[str, kopf.AiohttpSession] = field(default_factory=dict)

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """A session with the current token."""
        token = await self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
        if token not in self.sessions:
            headers = {"Authorization": token} if token else {}
            session = open_session(self.configuration, headers=headers, response_class=Answer)
            self.sessions[token] = kopf.AiohttpSession(server=self.configuration.host, aiohttp_session=session)
        return self.sessions[token]

    async def close(self) -> None:
        """Close every session; kopf leaves those open that it never used."""
        for given in self.sessions.values():
            await given.aiohttp_session.close()


async def _end_watches() -> None:
    """
    End the watch that kopf leaves running after its other one has failed.

    When kopf shuts down it cancels such a watch together with the task that the watch awaits, and then waits for it
    forever.
    """
    watches = [task for task in asyncio.all_tasks() if task.get_name().startswith("watcher for ")]
    for task in watches:
        task.cancel()
    await asyncio.gather(*watches, return_exceptions=True)


def _words(error: Exception) -> str:
    """An error in one line; one of kopf's exceptions has the server's whole answer after the message."""
    return f"{type(error).__name__}: {error.args[0] if error.args else error}"
