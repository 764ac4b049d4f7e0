"""Helpers to look up objects in the output of `helm template`."""

from functools import cache
from typing import Any

import pytest

from tidegate.errors import SourceError
from tools import generate

Object = dict[str, Any]


@cache
def _rendered(arguments: tuple[str, ...]) -> list[Any]:
    return generate.render(*arguments)


def render(*arguments: str) -> list[Object]:
    """Objects of the release with these arguments; the test is skipped where there is no Helm."""
    try:
        return _rendered(arguments)
    except SourceError as error:
        pytest.skip(f"no Helm here (`make binaries` gets it): {error}")


def by_kind(objects: list[Object], kind: str) -> list[Object]:
    """Those of one kind."""
    return [o for o in objects if o["kind"] == kind]


def container(deployment: Object) -> Object:
    """The operator's container."""
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(objects: list[Object]) -> dict[str, Any]:
    """Its environment variables: values, or where they come from."""
    (deployment,) = by_kind(objects, "Deployment")
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(deployment)["env"]}
