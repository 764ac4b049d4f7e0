"""Watches must behave the same on both control planes."""

import pytest

from tests.sandbox.kube import MERGE, TIDEGATE, Kube, config_map, inference_deployment


async def test_a_watch_from_a_version_shows_what_came_after_it(kube: Kube) -> None:
    path = kube.path("inferencedeployments", group=TIDEGATE)
    first = await kube.create(path, inference_deployment("a"))
    await kube.create(path, inference_deployment("b"))
    await kube.patch(f"{path}/a", {"spec": {"maxReplicas": 9}})
    await kube.call("DELETE", f"{path}/b")
    async with kube.watch(path, resourceVersion=first["metadata"]["resourceVersion"]) as following:
        events = [await following() for _ in range(3)]
    assert [(each["type"], each["object"]["metadata"]["name"]) for each in events] == [
        ("ADDED", "b"),
        ("MODIFIED", "a"),
        ("DELETED", "b"),
    ]
    versions = [int(each["object"]["metadata"]["resourceVersion"]) for each in events]
    assert versions == sorted(set(versions))


async def test_a_watch_stays_open_for_what_comes(kube: Kube) -> None:
    path = kube.path("configmaps")
    start = (await kube.get(path))["metadata"]["resourceVersion"]
    async with kube.watch(path, resourceVersion=start) as following:
        await kube.create(path, config_map("later"))
        event = await following()
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "later")


async def test_a_watch_without_a_version_begins_with_what_is_there(kube: Kube) -> None:
    path = kube.path("inferencedeployments", group=TIDEGATE)
    await kube.create(path, inference_deployment("a"))
    async with kube.watch(path) as following:
        event = await following()
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")


async def test_objects_enter_and_leave_a_selector(kube: Kube) -> None:
    path = kube.path("configmaps")
    start = (await kube.get(path))["metadata"]["resourceVersion"]
    async with kube.watch(path, resourceVersion=start, labelSelector="seen=yes") as following:
        await kube.create(path, config_map("a"))
        await kube.patch(f"{path}/a", {"metadata": {"labels": {"seen": "yes"}}}, MERGE)
        await kube.patch(f"{path}/a", {"data": {"x": "1"}}, MERGE)
        await kube.patch(f"{path}/a", {"metadata": {"labels": {"seen": "no"}}}, MERGE)
        events = [await following() for _ in range(3)]
    assert [each["type"] for each in events] == ["ADDED", "MODIFIED", "DELETED"]


async def test_initial_events_of_a_streaming_list_end_with_a_bookmark(kube: Kube) -> None:
    path = kube.path("inferencedeployments", group=TIDEGATE)
    await kube.create(path, inference_deployment("a"))
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with kube.watch(path, **options) as following:
        events = [await following() for _ in range(2)]
    assert [each["type"] for each in events] == ["ADDED", "BOOKMARK"]
    annotations = events[1]["object"]["metadata"]["annotations"]
    assert annotations["k8s.io/initial-events-end"] == "true"


async def test_a_streaming_list_needs_a_version_match(kube: Kube) -> None:
    options = {"watch": "true", "sendInitialEvents": "true"}
    status, answer = await kube.call("GET", kube.path("configmaps"), **options)
    assert status == 422
    assert "resourceVersionMatch is required" in answer["message"] or "resourceVersionMatch" in answer["message"]


async def test_a_watch_ends_when_its_time_is_up(kube: Kube) -> None:
    path = kube.path("configmaps")
    start = (await kube.get(path))["metadata"]["resourceVersion"]
    async with kube.session.get(path, params={"watch": "1", "timeoutSeconds": "1", "resourceVersion": start}) as answer:
        assert await answer.content.read() == b""


async def test_a_watch_can_carry_metadata_alone(kube: Kube) -> None:
    path = kube.path("configmaps")
    start = (await kube.get(path))["metadata"]["resourceVersion"]
    accept = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    options = {"watch": "true", "resourceVersion": start, "timeoutSeconds": "10"}
    async with kube.session.get(path, params=options, headers=accept) as answer:
        await kube.create(path, config_map("a", x="1"))
        line = await answer.content.readline()
    assert b'"PartialObjectMetadata"' in line
    assert b'"data"' not in line


@pytest.mark.parametrize("verb", ["watch", "list"], ids=["a watch", "the next page of a list"])
async def test_dropped_history_gives_410(kube: Kube, control_plane: object, choice: str, verb: str) -> None:
    """A real API server forgets after five minutes, too long for a test: version 1 is forgotten in either."""
    if choice == "embedded":
        control_plane.store.forget()  # type: ignore[attr-defined]
    if verb == "list":
        if choice == "kubernetes":
            pytest.skip("a real API server keeps the history of a fresh list for five minutes")
        token = "WzEsICJ4IiwgInkiXQ=="  # version 1
        status, answer = await kube.call("GET", kube.path("configmaps"), limit="1", **{"continue": token})
        assert (status, answer["reason"]) == (410, "Expired")
        return
    async with kube.watch(kube.path("inferencedeployments", group=TIDEGATE), resourceVersion="1") as following:
        event = await following()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"].startswith("too old resource version: 1 (")
