"""JSON that somebody nested very deeply."""

import json
from typing import Any

import msgspec
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from tests.observe.fake_prometheus import always, serving
from tidegate.ports import Call
from tidegate.runtime.answers import LEVELS_MOST, decoded, shallow
from tidegate.runtime.kube import HttpKubeApi

MARKS = [("[", "]"), ('{"a": ', "}"), ('[{"[": "}]\\"", "a": ', "}]")]


def nested(levels: int, begin: str = "[", end: str = "]") -> str:
    return begin * levels + "1" + end * levels


@pytest.mark.parametrize(("begin", "end"), MARKS, ids=["lists", "mappings", "both, with marks in texts"])
@pytest.mark.parametrize("levels", [1_000, 10_000, 100_000])
def test_an_object_is_read_without_what_is_nested_too_deeply(levels: int, begin: str, end: str) -> None:
    text = f'{{"before": 1, "deep": [2, {nested(levels, begin, end)}], "after": "\\\\"}}'
    found = decoded(text.encode())
    assert (found["before"], found["deep"][0], found["after"]) == (1, 2, "\\")


def test_as_many_levels_are_kept_as_promised() -> None:
    whole = nested(LEVELS_MOST)
    assert shallow(whole.encode()).decode() == whole
    assert shallow(f"[{whole}]".encode()).decode() == nested(LEVELS_MOST).replace("1", "null")


def test_what_is_no_json_is_read_once_too() -> None:
    """Otherwise this takes many minutes."""
    assert shallow(b"[" * 1_000 + b'"' + rb"\"" * 500_000) == b"[" * LEVELS_MOST + b"null"


def test_an_object_that_is_nested_too_deeply_and_cut_off_is_no_json() -> None:
    with pytest.raises(msgspec.DecodeError):
        decoded(b"[" * 10_000)


async def test_such_an_object_hides_no_other() -> None:
    bad = f'{{"metadata": {{"name": "bad"}}, "spec": {nested(2_000)}}}'
    good: dict[str, Any] = {"metadata": {"name": "good"}}
    listed, configuration = Call(method="GET", path="/list"), Configuration()
    async with serving(always(lambda: web.Response(text=f'{{"items": [{bad}, {json.dumps(good)}]}}'))) as server:
        configuration.host = server.url
        async with HttpKubeApi(configuration) as api:
            assert (await api.send(listed))["items"][1] == good
    event = f'{{"type": "ADDED", "object": {bad}}}\n'
    async with serving(always(lambda: web.Response(text=2 * event))) as server:
        configuration.host = server.url
        async with HttpKubeApi(configuration) as api:
            seen = [each["object"]["metadata"]["name"] async for each in api.watch(listed)]
    assert seen == ["bad", "bad"]
