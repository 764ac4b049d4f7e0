"""
Every permission of the chart is used, and none is missing: all requests of an operator's lifetime, compared with the
RBAC rules.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import render
from tests.runtime.rig import CHAT, DEPLOYMENTS, OURS, Json, Rig, accelerator, rigged, workload
from tidegate.runtime.keeper import SHARDS
from tidegate.runtime.parts import named
from tidegate.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "tidegate" / "files" / "rbac.yaml"
PLAIN = ROOT / "deploy" / "base" / "operator.yaml"
ACCOUNT = ("tidegate-system", "tidegate")
LABELS = {"app": "chat-sets"}

# (verb, group, resource with its subresource)
Right = tuple[str, str, str]

# Made by server-side apply: a real API server asks for `create` too, the embedded one sees the patch.
APPLIED = {"configmaps", "deployments", "podmonitors", "services"}
MOVED = f"{OURS}/namespaces/prod/inferencedeployments/moved"
IDLE = {"running": 1.0, "started": 0.1, "finished": 0.1, "prompt_tokens": 100.0, "output_tokens": 20.0}


def granted() -> set[Right]:
    rules = yaml.safe_load(RULES.read_text())
    return {
        (verb, group, resource)
        for part in rules.values()
        for rule in part
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def definition(group: str, version: str, plural: str, kind: str, *, scale: bool) -> Json:
    """A CRD that takes anything; with /scale where asked for."""
    served: Json = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    if scale:
        paths = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
        served["subresources"] = {"status": {}, "scale": {**paths, "labelSelectorPath": ".status.selector"}}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
    }


OTHERS = [
    definition("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor", scale=False),
    definition("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject", scale=False),
    definition("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet", scale=True),
]


def tier(name: str, **how: Any) -> Json:
    return {"name": name, "quality": "1", "accelerator": "nvidia-h100", "acceleratorsPerReplica": 1, **how}


def target(api_version: str, kind: str) -> Json:
    return {"targetRef": {"apiVersion": api_version, "kind": kind, "name": "chat-sets"}}


def pinned(namespace: str, name: str, replicas: int, *tiers: Json) -> Json:
    spec = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "minReplicas": replicas,
        "maxReplicas": 8,
        "slo": {"ttftMilliseconds": 500, "itlMilliseconds": 40},
        "tiers": list(tiers),
    }
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeployment", "metadata": meta, "spec": spec}


async def people_the_cluster(rig: Rig) -> None:
    """One deployment per kind of target, and one that the operator builds itself."""
    for crd in OTHERS:
        await rig.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    sets = {**workload("chat-sets"), "kind": "StatefulSet"}
    sets["spec"] |= {"serviceName": "chat"}
    await rig.create("/apis/apps/v1/namespaces/prod/statefulsets", sets)
    leaders = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "spec": {"replicas": 1}}
    leaders |= {"metadata": {"name": "chat-sets", "namespace": "prod"}, "status": {"selector": "app=chat-sets"}}
    await rig.create("/apis/leaderworkerset.x-k8s.io/v1/namespaces/prod/leaderworkersets", leaders)
    await rig.create(DEPLOYMENTS, workload("chat-sets"))
    await rig.create(f"{OURS}/acceleratorclasses", accelerator())
    image = {"workload": {"image": "vllm/vllm-openai:v0.32.0"}}
    many = f"{OURS}/namespaces/prod/inferencedeployments"
    await rig.create(many, pinned("prod", "chat", 2, tier("old", **image), tier("new", **image)))
    await rig.create(many, pinned("prod", "moved", 1, tier("only", **image)))
    kinds = {"sets": ("apps/v1", "StatefulSet"), "plain": ("apps/v1", "Deployment")}
    kinds["groups"] = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
    for name, kind in kinds.items():
        await rig.create(many, pinned("prod", name, 3, tier("only", **target(*kind))))


@pytest.mark.slow
async def test_each_permission_is_used_and_none_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rigged(tmp_path, monkeypatch) as rig:
        account = await rig.plane.service_account(*ACCOUNT)
        kubeconfig = rig.proxy.account(account).write_kubeconfig(tmp_path / "operator")
        await people_the_cluster(rig)
        rig.reports = IDLE
        async with rig.operator(kubeconfig=str(kubeconfig)):
            asked = rig.plane.requested

            def used() -> set[Right]:
                seen = asked.get(":".join(("system:serviceaccount", *ACCOUNT)), set())
                rights = {(verb, group, f"{plural}/{sub}" if sub else plural) for verb, group, plural, sub in seen}
                return rights | {("create", g, r) for v, g, r in rights if v == "patch" and r in APPLIED}

            async def scaled() -> bool:
                return {("patch", "apps", "statefulsets/scale"), ("patch", "apps", "deployments/scale")} <= used()

            await rig.until(scaled, limit_s=30.0)
            # A tier that is taken out of the spec is taken down.
            kept = (await rig.get(CHAT))["spec"]["tiers"][1:]
            await rig.patch(CHAT, {"spec": {"tiers": kept}})
            # A deployment that points at a workload now needs neither pods nor Service nor PodMonitor of ours.
            await rig.create(DEPLOYMENTS, workload("moved-target"))
            moved = target("apps/v1", "Deployment")
            moved["targetRef"] |= {"name": "moved-target"}
            await rig.patch(MOVED, {"spec": {"tiers": [tier("only", **moved)]}})
            with suppress(AssertionError):  # what is missing is told below
                await rig.until(lambda: _is(used, granted()), limit_s=40.0)
        assert used() - granted() == set(), "asked for, and not granted"
        assert granted() - used() == set(), "granted, and never asked for"


def own_names(objects: list[Json]) -> dict[str, list[str]]:
    """Names of what the Role in its own namespace lets the operator touch, by kind; `create` knows none."""
    (role,) = [o for o in objects if o["kind"] == "Role" and o["metadata"]["name"] == "tidegate-own"]
    assert [rule["verbs"] for rule in role["rules"] if "resourceNames" not in rule] == [["create"], ["create"]]
    return {rule["resources"][0]: rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule}


def wanted_names(**served: str) -> dict[str, list[str]]:
    """Lease and ConfigMaps as the operator names them."""
    settings = Settings(prometheus_url="http://p", **served)
    memory = named("tidegate-memory", settings)
    return {
        "leases": [named("tidegate", settings)],
        "configmaps": [f"{memory}-{shard:02d}" for shard in range(SHARDS)],
    }


def test_in_its_own_namespace_it_may_touch_its_lease_and_its_memory_alone() -> None:
    assert own_names([o for o in yaml.safe_load_all(PLAIN.read_text()) if o]) == wanted_names()


@pytest.mark.cluster
@pytest.mark.parametrize(
    "served",
    [
        pytest.param({"shard": "blue"}, id="of a shard"),
        pytest.param({"namespace": "prod"}, id="of one namespace"),
        pytest.param({"shard": "tidegate", "namespace": "tidegate-memory"}, id="of both, named to confuse"),
    ],
)
def test_the_chart_grants_the_names(served: dict[str, str]) -> None:
    values = f"shard={served.get('shard', '')},watchNamespace={served.get('namespace', '')}"
    assert own_names(render("--set", values)) == wanted_names(**served)


async def _is(used: Any, wanted: set[Right]) -> bool:
    # The memory is saved when the operator stops, so its ConfigMap comes last.
    return {r for r in wanted - used() if r[2] != "configmaps"} == set()
