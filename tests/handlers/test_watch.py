"""How the handlers process watch events."""

from collections.abc import Callable, Mapping
from typing import Any

import kopf
import pytest
from kopf._cogs.structs import bodies, finalizers

from tests.api.manifests import ACCELERATOR, GOOD, changed
from tidegate.api import convert
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec
from tidegate.errors import SpecError
from tidegate.handlers import Parser, make_registry, make_settings
from tidegate.ports import AcceleratorResource, DeploymentResource, Inventory


class Recorder:
    """An inventory that records what it gets."""

    def __init__(self) -> None:
        self.deployments: dict[Key, DeploymentResource] = {}
        self.accelerators: dict[str, AcceleratorResource] = {}

    def put_deployment(self, resource: DeploymentResource) -> None:
        self.deployments[resource.key] = resource

    def drop_deployment(self, key: Key, uid: str) -> None:
        if key in self.deployments and self.deployments[key].uid == uid:
            del self.deployments[key]

    def put_accelerator(self, resource: AcceleratorResource) -> None:
        self.accelerators[resource.name] = resource

    def drop_accelerator(self, name: str, uid: str) -> None:
        self.accelerators.pop(name, None)


def served(text: str = GOOD, *, generation: int = 1, **changes: Any) -> dict[str, Any]:
    """A manifest as the API server sends it back."""
    manifest = changed(text, changes)
    spec = manifest["spec"]
    if manifest["kind"] == "InferenceDeployment":
        spec.pop("replicas", None)
    own = {"namespace": "prod", "uid": "u1", "generation": generation, "creationTimestamp": "2026-11-20T10:00:00Z"}
    manifest["metadata"] = own | manifest["metadata"]
    return manifest


def registry_of(
    inventory: Inventory, *, wants: Callable[[Mapping[str, str]], bool] = lambda _: True
) -> kopf.OperatorRegistry:
    return make_registry(inventory, login=kopf.login_with_kubeconfig, wants=wants)


async def send(registry: kopf.OperatorRegistry, kind: str, raw: dict[str, Any], type_: str | None = "MODIFIED") -> None:
    handlers = [h for h in registry._watching.get_all_handlers() if h.selector.any_name == kind]
    assert len(handlers) == 1
    await handlers[0].fn(event={"type": type_, "object": raw})


async def test_a_deployment_arrives_parsed() -> None:
    inventory = Recorder()
    await send(registry_of(inventory), "inferencedeployments", served(), None)
    resource = inventory.deployments[Key("prod", "chat")]
    assert isinstance(resource.spec, DeploymentSpec)
    assert (resource.uid, resource.generation, resource.spec.slo.ttft_s) == ("u1", 1, 0.5)
    assert resource.created == "2026-11-20T10:00:00Z", "who was there first keeps a target that two point at"


async def test_an_accelerator_arrives_parsed_and_is_dropped() -> None:
    inventory = Recorder()
    registry = registry_of(inventory)
    raw = served(ACCELERATOR)
    await send(registry, "acceleratorclasses", raw)
    assert inventory.accelerators["nvidia-h100"].accelerator.price_usd_per_hour == 3.0  # type: ignore[union-attr]
    await send(registry, "acceleratorclasses", raw, "DELETED")
    assert inventory.accelerators == {}


async def test_an_invalid_spec_is_a_value_and_does_not_end_the_watch() -> None:
    inventory = Recorder()
    await send(registry_of(inventory), "inferencedeployments", served(**{"spec.schedules.0.timeZone": "Mars/Base"}))
    spec = inventory.deployments[Key("prod", "chat")].spec
    assert isinstance(spec, SpecError)
    assert (spec.field, spec.value) == ("spec.schedules[0].timeZone", "Mars/Base")


@pytest.mark.parametrize(
    ("kind", "text", "parse"),
    [
        pytest.param("inferencedeployments", GOOD, "deployment_spec", id="a deployment"),
        pytest.param("acceleratorclasses", ACCELERATOR, "accelerator", id="a class"),
    ],
)
async def test_an_object_that_hits_a_bug_still_arrives(
    kind: str, text: str, parse: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(convert, parse, broken)
    inventory = Recorder()
    await send(registry_of(inventory), kind, served(text))
    found = [
        *(resource.spec for resource in inventory.deployments.values()),
        *(resource.accelerator for resource in inventory.accelerators.values()),
    ]
    assert [type(each) for each in found] == [SpecError]
    assert "please report" in str(found[0])
    assert "RecursionError" in caplog.text


@pytest.mark.parametrize("gone", ["DELETED", "MODIFIED"], ids=["deleted", "on its way out"])
async def test_a_deployment_that_is_gone_is_dropped(gone: str) -> None:
    inventory = Recorder()
    registry = registry_of(inventory)
    await send(registry, "inferencedeployments", served())
    await send(registry, "inferencedeployments", served(**{"metadata.deletionTimestamp": "2026-11-20T10:00:00Z"}), gone)
    assert inventory.deployments == {}


async def test_a_deployment_that_stops_being_ours_is_dropped() -> None:
    inventory = Recorder()
    registry = registry_of(inventory, wants=lambda labels: labels.get("shard") == "a")
    await send(registry, "inferencedeployments", served(**{"metadata.labels": {"shard": "a"}}))
    assert list(inventory.deployments) == [Key("prod", "chat")]
    await send(registry, "inferencedeployments", served(**{"metadata.labels": {"shard": "b"}}))
    assert inventory.deployments == {}


def test_an_echo_of_a_status_write_is_not_parsed_again() -> None:
    parser = Parser()
    first, second = parser.deployment(served()), parser.deployment(served(status={"replicas": 2}))
    assert first.spec is second.spec
    assert second.status == {"replicas": 2}


def test_a_new_generation_is_parsed_again() -> None:
    parser = Parser()
    parser.deployment(served())
    spec = parser.deployment(served(generation=2, **{"spec.maxReplicas": 30})).spec
    assert isinstance(spec, DeploymentSpec)
    assert spec.replicas_max == 30


def test_a_recreated_deployment_is_parsed_again() -> None:
    parser = Parser()
    parser.deployment(served())
    again = parser.deployment(served(**{"metadata.uid": "u2", "spec.maxReplicas": 30})).spec
    assert isinstance(again, DeploymentSpec)
    assert again.replicas_max == 30


def test_the_pause_annotation_counts_without_a_new_generation() -> None:
    parser = Parser()
    states = []
    for value in ("true", "false", "true"):
        spec = parser.deployment(served(**{"metadata.annotations": {"tidegate.io/paused": value}})).spec
        assert isinstance(spec, DeploymentSpec)
        states.append(spec.paused)
    assert states == [True, False, True]


def test_kopf_adds_nothing_to_an_object() -> None:
    registry = registry_of(Recorder())
    assert registry._indexing.get_all_handlers() == []
    assert registry._spawning.get_all_handlers() == []
    assert registry._changing.get_all_handlers() == []
    settings = make_settings()
    assert settings.posting.enabled is False
    assert settings.queueing.worker_limit is None


def test_kopf_removes_nothing_from_an_object() -> None:
    somebodys = kopf.OperatorSettings().persistence.finalizer
    body = bodies.Body({"metadata": {"finalizers": [somebodys]}})
    assert finalizers.is_deletion_blocked(body, somebodys), "kopf would write, which it may not, and then wait for long"
    assert not finalizers.is_deletion_blocked(body, make_settings().persistence.finalizer)
