"""
What exists against what arrived: checked again soon while something is missing.
"""

from typing import Any

import pytest

from tests.kube_fakes import Clock, ScriptedApi, down
from tests.runtime.test_edges import resource
from tidegate.domain.key import Key
from tidegate.ports import Call
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.sweep import PERIOD_S, Sweeper

DEPLOYMENTS = "/apis/tidegate.io/v1alpha1/inferencedeployments"
ACCELERATORS = "/apis/tidegate.io/v1alpha1/acceleratorclasses"


class Rig:
    def __init__(self) -> None:
        self.api, self.inventory, self.clock = ScriptedApi(), FleetInventory(), Clock()
        self.sweeper = Sweeper(api=self.api, inventory=self.inventory, namespace=None, clock=self.clock)
        self.api.answers["GET", ACCELERATORS] = {"items": []}
        self.exists("chat", "code")

    def exists(self, *names: str) -> None:
        items = [{"metadata": {"namespace": "prod", "name": n, "uid": f"{n}-uid", "generation": 1}} for n in names]
        self.api.answers["GET", DEPLOYMENTS] = {"items": items}

    async def look(self, *, after_s: float = 3.0) -> int:
        """Lists requested by one look."""
        before = len(self.api.calls)
        self.clock.now_s += after_s
        await self.sweeper.look()
        return len(self.api.calls) - before


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_an_object_deleted_before_it_arrives_is_no_longer_missing(rig: Rig) -> None:
    await rig.sweeper.sweep()
    rig.inventory.put_deployment(resource(uid="chat-uid"))
    assert rig.inventory.behind() == 1, "the other one was deleted before kopf first listed"
    rig.exists("chat")
    await rig.look()
    assert rig.inventory.behind() == 0


async def test_nothing_is_listed_for_ten_minutes_if_nothing_is_missing(rig: Rig) -> None:
    rig.exists()
    await rig.sweeper.sweep()
    assert [await rig.look() for _ in range(3)] == [0, 0, 0]
    assert await rig.look(after_s=PERIOD_S) == 2


async def test_the_time_something_is_missing_is_counted_across_sweeps(rig: Rig) -> None:
    await rig.sweeper.sweep()
    await rig.look()
    since_s = rig.sweeper.behind_s
    await rig.look()
    assert rig.sweeper.behind_s == since_s == rig.clock.now_s - 3.0
    for name in ("chat", "code"):
        rig.inventory.put_deployment(resource(Key("prod", name), uid=f"{name}-uid"))
    await rig.look()
    assert rig.sweeper.behind_s is None


async def test_an_unreachable_server_is_retried(rig: Rig) -> None:
    await rig.sweeper.sweep()
    rig.api.answers["GET", DEPLOYMENTS] = down()
    await rig.look()
    rig.exists()
    await rig.look()
    assert rig.inventory.behind() == 0


async def test_an_object_on_a_later_page_is_kept(rig: Rig) -> None:
    def page(call: Call) -> dict[str, Any]:
        name, after = ("code", "") if call.params.get("continue") else ("chat", "more")
        meta = {"namespace": "prod", "name": name, "uid": f"{name}-uid", "generation": 1}
        return {"items": [{"metadata": meta}], "metadata": {"continue": after}}

    rig.api.answers["GET", DEPLOYMENTS] = page
    for name in ("chat", "code"):
        rig.inventory.put_deployment(resource(Key("prod", name), uid=f"{name}-uid"))
    await rig.sweeper.sweep()
    assert {key.name for key in rig.inventory.deployments} == {"chat", "code"}


async def test_an_installation_for_one_namespace_lists_no_other(rig: Rig) -> None:
    """Its service account may not list others."""
    rig.sweeper.namespace = "prod"
    path = "/apis/tidegate.io/v1alpha1/namespaces/prod/inferencedeployments"
    rig.api.answers["GET", path] = {"items": []}
    await rig.sweeper.sweep()
    assert [call.path for call in rig.api.calls] == [path, ACCELERATORS]


async def test_a_requested_sweep_does_not_wait_for_ten_minutes(rig: Rig) -> None:
    rig.exists()
    await rig.sweeper.sweep()
    rig.sweeper.soon()
    assert [await rig.look() for _ in range(2)] == [2, 0]
