"""Hollow nodes, on both control planes: what happens to a pod that is bound to one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from itertools import count, pairwise
from typing import Any

import aiohttp
import pytest

from tests.sandbox.kube import APPS, CORE
from tests.sandbox.kube import Kube as Client
from tidegate.sandbox.kube import Kube
from tidegate.sandbox.kubelet.addresses import Addresses, Claim, listening, node_address
from tidegate.sandbox.kubelet.machines import Machine
from tidegate.sandbox.kubelet.nodes import EXPORTER_PORT, HollowNodes
from tidegate.sandbox.kubelet.status import condition_values, merged_conditions, phase_of

LAW = '{"a_s": 0.005, "b_s": 0, "c_s": 0, "p0_s": 0.001, "p1_s": 1e-6, "kv_cache_tokens": 20000, "running_max": 64}'
Object = dict[str, Any]
_numbers = count(100)


@asynccontextmanager
async def nodes(control_plane: Any, *, gpus: int = 4) -> AsyncIterator[Machine]:
    number = next(_numbers)
    machine = Machine(name=f"node-{number}", number=number, product=f"TEST-{number}", gpus=gpus)
    async with control_plane.admin.session() as session:
        hollow = HollowNodes(Kube(session), [machine], pace=100, seed=1)
        running = asyncio.create_task(hollow.run())
        try:
            yield machine
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await session.delete(f"{CORE}/nodes/{machine.name}")


def pod(machine: Machine, *, args: list[str] | None = None, fault: str = "", **spec: Any) -> Object:
    vllm = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": ["--model", "m", "--max-model-len", "4096", "--shutdown-timeout", "20", *(args or [])],
        "env": [{"name": "TIDEGATE_LAW", "value": LAW}, {"name": "SANDBOX_FAULT", "value": fault}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": "2"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1},
        **spec.pop("container", {}),
    }
    return {
        "metadata": {"labels": {"app": "chat"}},
        "spec": {
            "nodeSelector": {"nvidia.com/gpu.product": machine.product},
            "containers": [vllm],
            "terminationGracePeriodSeconds": 30,
            **spec,
        },
    }


async def until(kube: Client, name: str, holds: Callable[[Object], Any]) -> Object:
    return await kube.until(kube.path("pods", name), holds)


def ready(found: Object) -> bool:
    return condition(found, "Ready") == "True"


def condition(found: Object, kind: str) -> str | None:
    return next((c["status"] for c in found["status"].get("conditions", []) if c["type"] == kind), None)


def container(found: Object) -> Object:
    nothing = {"state": {}, "lastState": {}, "restartCount": 0}
    return dict((found["status"].get("containerStatuses") or [nothing])[0])


def state(found: Object) -> Object:
    return dict(container(found)["state"])


async def make(kube: Client, name: str, body: Object) -> None:
    metadata = {**body.get("metadata", {}), "name": name}
    await kube.create(kube.path("pods"), {"apiVersion": "v1", "kind": "Pod", **body, "metadata": metadata})


async def test_a_pod_serves_at_the_loopback_twin_of_the_address_it_reports(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane) as machine, aiohttp.ClientSession() as client:
        await make(kube, "one", pod(machine))
        found = await until(kube, "one", ready)
        address = found["status"]["podIP"]
        assert address.startswith(f"10.244.{machine.number}.")
        assert found["status"]["phase"] == "Running"
        async with client.get(f"http://{listening(address)}:8000/health") as answer:
            assert answer.status == 200
        async with client.get(f"http://{listening(node_address(machine.number))}:{EXPORTER_PORT}/metrics") as answer:
            text = await answer.text()
        held = [line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_FB_USED") and 'pod="one"' in line]
        assert len(held) == 2


async def test_a_deployment_becomes_a_service_with_ready_endpoints(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane) as machine:
        template = pod(machine)
        spec = {"replicas": 2, "selector": {"matchLabels": {"app": "chat"}}, "template": template}
        await kube.create(kube.path("deployments", group=APPS), {"metadata": {"name": "chat"}, "spec": spec})
        service = {"selector": {"app": "chat"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
        await kube.create(kube.path("services"), {"metadata": {"name": "chat"}, "spec": service})
        path = kube.path("endpointslices", group="/apis/discovery.k8s.io/v1")

        def endpoints(listing: Object) -> list[Object]:
            return [e for s in listing["items"] for e in s.get("endpoints") or [] if e["conditions"].get("ready")]

        listing = await kube.until(path, lambda found: len(endpoints(found)) == 2)
        assert all(e["addresses"][0].startswith("10.244.") for e in endpoints(listing))


async def test_a_pod_without_room_waits_until_somebody_leaves(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane, gpus=2) as machine:
        await make(kube, "first", pod(machine))
        await until(kube, "first", ready)
        await make(kube, "second", pod(machine))
        await until(kube, "second", lambda p: condition(p, "PodScheduled") == "False")
        await kube.call("DELETE", kube.path("pods", "first"))
        await until(kube, "second", ready)


async def test_a_pod_on_its_way_out_finishes_its_streams(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane) as machine, aiohttp.ClientSession() as client:
        hook = {"lifecycle": {"preStop": {"sleep": {"seconds": 10}}}}
        await make(kube, "one", pod(machine, container=hook))
        found = await until(kube, "one", ready)
        url = f"http://{listening(found['status']['podIP'])}:8000/v1/completions"
        ask = {"model": "m", "prompt": [1, 2, 3], "max_tokens": 150, "ignore_eos": True, "stream": True}
        async with client.post(url, json=ask) as response:
            await response.content.readany()
            await kube.call("DELETE", kube.path("pods", "one"))
            assert (await response.text()).endswith("data: [DONE]\n\n")
        await kube.until_gone(kube.path("pods", "one"))


async def test_a_crash_is_reported_and_backed_off_and_started_again(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane) as machine, aiohttp.ClientSession() as client:
        await make(kube, "one", pod(machine, fault="dead-at-first-request"))
        found = await until(kube, "one", ready)
        url = f"http://{listening(found['status']['podIP'])}:8000/v1/completions"
        with pytest.raises(aiohttp.ClientError):
            await client.post(url, json={"model": "m", "prompt": "x"})
        found = await until(kube, "one", lambda p: container(p)["restartCount"] == 1)
        assert container(found)["lastState"]["terminated"]["exitCode"] == 132
        await until(kube, "one", ready)


async def test_a_server_that_never_gets_ready_is_never_ready(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane) as machine:
        await make(kube, "one", pod(machine, fault="never-ready"))
        await until(kube, "one", lambda p: "running" in state(p))
        await asyncio.sleep(2)
        assert not ready(await kube.get(kube.path("pods", "one")))


async def test_a_startup_probe_that_fails_too_often_restarts_the_container(control_plane: Any, kube: Client) -> None:
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2}
    async with nodes(control_plane) as machine:
        await make(kube, "one", pod(machine, fault="never-ready", container={"startupProbe": probe}))
        await until(kube, "one", lambda p: container(p)["restartCount"] >= 1)


async def test_arguments_that_vllm_refuses_end_in_a_crash_loop(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane) as machine:
        await make(kube, "one", pod(machine, args=["--max-num-seqs", "0"]))
        found = await until(kube, "one", lambda p: state(p).get("waiting", {}).get("reason") == "CrashLoopBackOff")
        assert container(found)["lastState"]["terminated"]["exitCode"] == 1


async def test_a_pod_that_is_deleted_by_force_leaves_no_server(control_plane: Any, kube: Client) -> None:
    async with nodes(control_plane) as machine, aiohttp.ClientSession() as client:
        await make(kube, "one", pod(machine))
        found = await until(kube, "one", ready)
        await kube.call("DELETE", kube.path("pods", "one"), gracePeriodSeconds="0")
        for _ in range(100):
            try:
                await client.get(f"http://{listening(found['status']['podIP'])}:8000/health")
            except aiohttp.ClientError:
                return
            await asyncio.sleep(0.1)
    raise AssertionError("the server still answers")


def waiting(reason: str = "ContainerCreating") -> Object:
    return {"state": {"waiting": {"reason": reason}}, "lastState": {}, "restartCount": 0, "ready": False}


def ended(code: int) -> Object:
    return {"state": {"terminated": {"exitCode": code}}, "lastState": {}, "restartCount": 0, "ready": False}


RUNNING: Object = {"state": {"running": {}}, "lastState": {}, "restartCount": 0, "ready": True}


@pytest.mark.parametrize(
    ("containers", "phase"),
    [
        pytest.param([waiting()], "Pending", id="an image is being pulled"),
        pytest.param([RUNNING, waiting()], "Pending", id="one of two has not started yet"),
        pytest.param([RUNNING], "Running", id="it runs"),
        pytest.param([waiting("CrashLoopBackOff") | {"lastState": ended(1)["state"]}], "Running", id="it backs off"),
        pytest.param([ended(0)], "Succeeded", id="it ended well"),
        pytest.param([ended(0), ended(137)], "Failed", id="one of two was killed"),
    ],
)
def test_the_phase_follows_from_the_containers(containers: list[Object], phase: str) -> None:
    assert phase_of(containers) == phase


def test_a_condition_keeps_its_time_while_it_keeps_its_status_and_others_are_left_alone() -> None:
    first = merged_conditions(
        [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "then"}],
        condition_values([waiting()]),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    later = merged_conditions(first, condition_values([RUNNING]), datetime(2026, 1, 2, tzinfo=UTC))
    times = {c["type"]: c["lastTransitionTime"] for c in later}
    assert times["PodScheduled"] == "then"
    assert times["Initialized"] == "2026-01-01T00:00:00Z"
    assert times["Ready"] == "2026-01-02T00:00:00Z"


def first_free(count: int) -> int:
    with closing(Claim(count, port=9499)) as claim:
        return claim.first


def test_a_second_sandbox_takes_networks_that_the_first_does_not_have() -> None:
    first = first_free(3)
    with closing(Claim(2, port=9499)) as claim:
        assert claim.first == first
        assert first_free(3) == first + 2, "claimed, although nobody listens there yet"
    assert first_free(3) == first


def test_networks_where_somebody_listens_are_left_alone() -> None:
    first = first_free(3)
    with socket.create_server((listening(node_address(first + 1)), 9499)):
        assert first_free(3) == first + 2
    assert first_free(3) == first


def test_sandboxes_that_start_at_once_never_share_a_network() -> None:
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: Claim(4, port=9499), range(8)))
        for claim in claims:
            stack.callback(claim.close)
        firsts = sorted(claim.first for claim in claims)
        assert all(later - earlier >= 4 for earlier, later in pairwise(firsts)), firsts


def test_an_address_that_was_given_back_is_used_again_last() -> None:
    addresses = Addresses(7)
    first = addresses.take()
    addresses.give_back(first)
    assert addresses.take() != first
    assert listening("10.244.7.2") == "127.244.7.2"
    assert listening("127.0.0.1") == "127.0.0.1"
