"""
The kopf handlers and settings.

Only `on.event` is used, because it writes nothing to an object. Indices take quadratic time at start, timers and
deletion handlers put a finalizer on every object, and change handlers an annotation (measured with kopf 1.45).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from tidegate.domain.key import Key
from tidegate.handlers.parse import Parser
from tidegate.ports import ACCELERATORS, DEPLOYMENTS, GROUP, VERSION, Inventory

Raw = Mapping[str, Any]
Login = Callable[..., object]


def make_registry(
    inventory: Inventory, *, login: Login, wants: Callable[[Mapping[str, str]], bool]
) -> kopf.OperatorRegistry:
    """
    Handlers that keep an inventory up to date.

    Args:
        inventory: Where the resources go.
        login: How kopf reaches the API server.
        wants: Which InferenceDeployments are ours, by their labels; one that stops being ours is dropped.
    """
    registry = kopf.OperatorRegistry()
    parser = Parser()

    def deployment(event: Raw, **_: Any) -> None:
        raw = event["object"]
        meta = raw["metadata"]
        if _is_gone(event) or not wants(meta.get("labels") or {}):
            parser.forget(meta["uid"])
            inventory.drop_deployment(Key(meta["namespace"], meta["name"]), meta["uid"])
        else:
            inventory.put_deployment(parser.deployment(raw))

    def accelerator(event: Raw, **_: Any) -> None:
        raw = event["object"]
        meta = raw["metadata"]
        if _is_gone(event):
            parser.forget(meta["uid"])
            inventory.drop_accelerator(meta["name"], meta["uid"])
        else:
            inventory.put_accelerator(parser.accelerator(raw))

    kopf.on.event(GROUP, VERSION, DEPLOYMENTS, registry=registry)(_on_loop(deployment))
    kopf.on.event(GROUP, VERSION, ACCELERATORS, registry=registry)(_on_loop(accelerator))
    kopf.on.login(registry=registry)(login)
    return registry


def make_settings() -> kopf.OperatorSettings:
    """kopf as a quiet watcher: no events, no peering, no annotations, and timeouts that detect dead connections."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 20
    settings.networking.error_backoffs = (1, 2, 4)
    settings.process.ultimate_exiting_timeout = 20
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.finalizer = ""  # no object can have it, so kopf removes none
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # else one line per object and relist
    return settings


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no copy of the last spec: else kopf would compute a difference for each event, which is not used."""

    def build(self, **_: Any) -> Any:
        """An empty essence."""
        return {}

    def fetch(self, **_: Any) -> Any:
        """Nothing was stored."""
        return None

    def store(self, **_: Any) -> None:
        """Stores nothing."""


def _is_gone(event: Raw) -> bool:
    """Deleted or terminating: what it owns must not be recreated while it is being garbage-collected."""
    return event["type"] == "DELETED" or bool(event["object"]["metadata"].get("deletionTimestamp"))


def _on_loop(handler: Callable[..., None]) -> Callable[..., Any]:
    """The handler as a coroutine; kopf would run a plain function in a thread."""

    async def run(**arguments: Any) -> None:
        handler(**arguments)

    run.__name__ = handler.__name__
    return run
