"""
From a custom resource as the API server sends it to the value that the rest works with.

In:    raw JSON of one object.
Out:   `DeploymentResource` or `AcceleratorResource`; an invalid spec is a value too, not an exception.
Rules: a spec is parsed once per generation; the echo of a status write costs one look-up. If parsing fails because of a
       bug, only that object is affected: an object that never arrives would keep the whole fleet from being planned.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tidegate.api import convert
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import SpecError
from tidegate.ports import AcceleratorResource, DeploymentResource

log = logging.getLogger(__name__)

Raw = Mapping[str, Any]
Parsed = TypeVar("Parsed")


class Parser:
    """Parses custom resources and remembers each spec by uid until its generation changes."""

    def __init__(self) -> None:
        self._deployments: dict[str, tuple[int, DeploymentSpec | SpecError]] = {}
        self._accelerators: dict[str, tuple[int, Accelerator | SpecError]] = {}

    def deployment(self, raw: Raw) -> DeploymentResource:
        """An InferenceDeployment. The pause annotation does not change the generation, so it is read each time."""
        meta = raw["metadata"]
        key = Key(meta["namespace"], meta["name"])
        annotations = meta.get("annotations") or {}
        spec = _remembered(self._deployments, meta, lambda: convert.deployment_spec(key, raw.get("spec") or {}))
        if isinstance(spec, DeploymentSpec) and spec.paused != convert.is_paused(annotations):
            spec = replace(spec, paused=not spec.paused)
        return DeploymentResource(
            key=key,
            uid=meta["uid"],
            generation=meta.get("generation", 0),
            spec=spec,
            status=raw.get("status") or {},
            annotations=annotations,
            created=meta.get("creationTimestamp", ""),
        )

    def accelerator(self, raw: Raw) -> AcceleratorResource:
        """An AcceleratorClass."""
        meta = raw["metadata"]
        return AcceleratorResource(
            name=meta["name"],
            uid=meta["uid"],
            generation=meta.get("generation", 0),
            accelerator=_remembered(
                self._accelerators, meta, lambda: convert.accelerator(meta["name"], raw.get("spec") or {})
            ),
            status=raw.get("status") or {},
        )

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a deleted object."""
        self._deployments.pop(uid, None)
        self._accelerators.pop(uid, None)


def _remembered(
    cache: dict[str, tuple[int, Parsed | SpecError]], meta: Raw, parse: Callable[[], Parsed]
) -> Parsed | SpecError:
    generation = meta.get("generation", 0)
    known = cache.get(meta["uid"])
    if known is not None and known[0] == generation:
        return known[1]
    parsed: Parsed | SpecError
    try:
        parsed = parse()
    except SpecError as fault:
        parsed = fault
    except Exception as fault:
        log.exception("cannot parse %s: a bug in Tidegate, please report it", meta["name"])
        allowed = f"the operator failed to parse it ({fault!r}): a bug in Tidegate, please report it"
        parsed = SpecError(field="spec", value=None, allowed=allowed)
    cache[meta["uid"]] = (generation, parsed)
    return parsed
