"""
A valid manifest, and many ways to break it: one table for the API server and for the models.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import yaml

GOOD = """
apiVersion: tidegate.io/v1alpha1
kind: InferenceDeployment
metadata: {name: chat}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  mode: Auto
  replicas: null
  minReplicas: 1
  maxReplicas: 24
  priority: 100
  slo: {ttftMilliseconds: 500, itlMilliseconds: 40, attainment: "0.99"}
  cost: {budgetPerHour: "40", targetPerMillionOutputTokens: "0.50"}
  quality: {minimum: "0.95", averageMinimum: "0.99"}
  scaleToZero: {idleSeconds: 900, activationQuery: "sum(rate(gateway_requests_total[1m]))"}
  scaleDown: {stabilizationWindowSeconds: 300}
  schedules:
    - {name: office, cron: "0 7 * * 1-5", timeZone: Europe/Berlin, durationSeconds: 43200, minReplicas: 4}
  tiers:
    - name: bf16
      quality: "1"
      accelerator: nvidia-h100
      acceleratorsPerReplica: 2
      minReplicas: 0
      maxReplicas: 20
      workload:
        image: vllm/vllm-openai:v0.32.0
        model: null
        args: ["--max-model-len", "8192"]
        env: [{name: HF_HUB_OFFLINE, value: "1"}, {name: TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}]
        resources: {requests: {cpu: 8, memory: 64Gi}}
        podTemplate: {spec: {priorityClassName: serving}}
      performance:
        decodeBaseMilliseconds: "6.37"
        decodePerRequestMilliseconds: "0.0108"
        decodePer1kContextMilliseconds: "0.0416"
        prefillBaseMilliseconds: "3.6"
        prefillPer1kTokensMilliseconds: "20.8"
        kvCacheTokens: 448000
        maxRunningRequests: 256
    - name: fp8
      quality: "0.98"
      accelerator: nvidia-h100
      targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat-fp8}
"""

ACCELERATOR = """
apiVersion: tidegate.io/v1alpha1
kind: AcceleratorClass
metadata: {name: nvidia-h100}
spec:
  resourceName: nvidia.com/gpu
  nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}
  pricePerHour: "3.00"
  currency: USD
  capacity: 64
  memoryGiB: 80
  boardPowerWatts: 700
"""

MINIMAL = """
apiVersion: tidegate.io/v1alpha1
kind: InferenceDeployment
metadata: {name: chat}
spec:
  model: m
  slo: {ttftMilliseconds: 500, itlMilliseconds: 40}
  tiers: [{name: only, accelerator: nvidia-h100, targetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}}]
"""


class Absent:
    """Stands for a removed field."""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """
    One way to break a manifest.

    Args:
        name: The sentence that is the test's id.
        changes: Path (`spec.tiers.0.quality`) -> value.
        field: Field named by the error.
        words: What the API server says is allowed.
        offline: The models reject it even without a cluster.
        base: The manifest that is broken.
    """

    name: str
    changes: dict[str, Any]
    field: str
    words: str
    offline: bool = True
    base: str = field(default=GOOD, repr=False)

    def manifest(self) -> dict[str, Any]:
        """The broken manifest."""
        return changed(self.base, self.changes)


def changed(base: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A manifest with some fields set or removed."""
    manifest: dict[str, Any] = copy.deepcopy(yaml.safe_load(base))
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        node: Any = manifest
        for part in parents:
            node = node[part]
        if value is Absent:
            del node[last]
        elif isinstance(node, list) and last == len(node):
            node.append(value)
        else:
            node[last] = value
    return manifest


def bad(name: str, changes: dict[str, Any], field: str, words: str, **more: Any) -> Bad:
    return Bad(name=name, changes=changes, field=field, words=words, **more)


_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-fp8"}
_LOW = {"name": "int4", "quality": "0.90", "accelerator": "nvidia-l4", "targetRef": _TARGET | {"name": "chat-int4"}}

TABLE = [
    bad("the model is missing", {"spec.model": Absent}, "spec.model", "Required value"),
    bad("the model has no name", {"spec.model": ""}, "spec.model", "at least 1 chars long"),
    bad("the model's name is endless", {"spec.model": "m" * 257}, "spec.model", "may not be more than 256"),
    bad("the mode is unknown", {"spec.mode": "auto"}, "spec.mode", 'supported values: "Auto", "Recommend", "Off"'),
    bad("the targets are missing", {"spec.slo": Absent}, "spec.slo", "Required value"),
    bad("TTFT is missing", {"spec.slo.ttftMilliseconds": Absent}, "spec.slo.ttftMilliseconds", "Required value"),
    bad("TTFT is zero", {"spec.slo.ttftMilliseconds": 0}, "spec.slo.ttftMilliseconds", "greater than or equal to 1"),
    bad("TTFT is over ten minutes", {"spec.slo.ttftMilliseconds": 600_001}, "spec.slo.ttftMilliseconds", "600000"),
    bad(
        "ITL is text",
        {"spec.slo.itlMilliseconds": "40"},
        "spec.slo.itlMilliseconds",
        "must be of type integer",
    ),
    bad("ITL is negative", {"spec.slo.itlMilliseconds": -1}, "spec.slo.itlMilliseconds", "greater than or equal to 1"),
    bad(
        "all requests without exception are promised",
        {"spec.slo.attainment": "1"},
        "spec.slo.attainment",
        'attainment must be a decimal string above 0 and below 1, such as "0.99"',
    ),
    bad(
        "no request at all is promised",
        {"spec.slo.attainment": "0"},
        "spec.slo.attainment",
        'attainment must be a decimal string above 0 and below 1, such as "0.99"',
    ),
    bad(
        "the attainment is a number, not text",
        {"spec.slo.attainment": 0.99},
        "spec.slo.attainment",
        "must be of type string",
        offline=False,
    ),
    bad("the attainment is in percent", {"spec.slo.attainment": "99%"}, "spec.slo.attainment", "should match"),
    bad(
        "the budget is zero",
        {"spec.cost.budgetPerHour": "0.00"},
        "spec.cost.budgetPerHour",
        'budgetPerHour must be a decimal string above 0, such as "40"',
    ),
    bad(
        "the budget has a currency sign", {"spec.cost.budgetPerHour": "$40"}, "spec.cost.budgetPerHour", "should match"
    ),
    bad("the budget is negative", {"spec.cost.budgetPerHour": "-1"}, "spec.cost.budgetPerHour", "should match"),
    bad(
        "the cost target is zero",
        {"spec.cost.targetPerMillionOutputTokens": "0"},
        "spec.cost.targetPerMillionOutputTokens",
        "targetPerMillionOutputTokens must be a decimal string above 0",
    ),
    bad(
        "the minimum quality is above 1",
        {"spec.quality.minimum": "1.01"},
        "spec.quality.minimum",
        "minimum must be a decimal string at least 0 and at most 1",
    ),
    bad(
        "the average may be worse than the minimum",
        {"spec.quality.averageMinimum": "0.90"},
        "spec.quality.averageMinimum",
        "averageMinimum must be at least minimum",
    ),
    bad(
        "no tier is good enough",
        {"spec.quality": {"minimum": "0.99"}, "spec.tiers.0.quality": "0.97"},
        "spec.tiers",
        "at least one tier must have a quality of at least quality.minimum",
    ),
    bad(
        "no tier reaches the average",
        {"spec.quality.averageMinimum": "0.995", "spec.tiers.0.quality": "0.99"},
        "spec.tiers",
        "at least one tier must have a quality of at least quality.averageMinimum",
    ),
    bad(
        "a tier that may not be used has a minimum",
        {"spec.tiers.2": _LOW | {"minReplicas": 1}},
        "spec.tiers",
        "a tier with a quality below quality.minimum is never used; its minReplicas must be 0",
    ),
    bad(
        "the minimum is above the maximum", {"spec.minReplicas": 25}, "spec.minReplicas", "minReplicas must be at most"
    ),
    bad("the maximum is zero", {"spec.maxReplicas": 0}, "spec.maxReplicas", "greater than or equal to 1"),
    bad("the maximum is absurd", {"spec.maxReplicas": 10_001}, "spec.maxReplicas", "less than or equal to 10000"),
    bad(
        "nothing may run although nobody asked for that",
        {"spec.minReplicas": 0, "spec.scaleToZero": Absent},
        "spec.minReplicas",
        "minReplicas must be at least 1 unless scaleToZero is set",
        offline=False,
    ),
    bad(
        "more replicas are pinned than allowed",
        {"spec.replicas": 25},
        "spec.replicas",
        "replicas must be between minReplicas and maxReplicas, or 0 to switch off",
    ),
    bad(
        "fewer replicas are pinned than allowed",
        {"spec.replicas": 1, "spec.minReplicas": 2},
        "spec.replicas",
        "replicas must be between minReplicas and maxReplicas, or 0 to switch off",
    ),
    bad(
        "the priority is absurd", {"spec.priority": 2_000_000_000}, "spec.priority", "less than or equal to 1000000000"
    ),
    bad("idleness is too short to tell", {"spec.scaleToZero.idleSeconds": 9}, "spec.scaleToZero.idleSeconds", "to 10"),
    bad(
        "the activation query is empty",
        {"spec.scaleToZero.activationQuery": ""},
        "spec.scaleToZero.activationQuery",
        "at least 1 chars long",
    ),
    bad(
        "the window is over an hour",
        {"spec.scaleDown.stabilizationWindowSeconds": 3601},
        "spec.scaleDown.stabilizationWindowSeconds",
        "less than or equal to 3600",
    ),
    bad("a cron has six fields", {"spec.schedules.0.cron": "0 0 7 * * 1"}, "spec.schedules[0].cron", "should match"),
    bad("a cron has a nickname", {"spec.schedules.0.cron": "@midnight"}, "spec.schedules[0].cron", "should match"),
    bad("a zone is no name", {"spec.schedules.0.timeZone": "+01:00"}, "spec.schedules[0].timeZone", "should match"),
    bad(
        "a schedule has no length",
        {"spec.schedules.0.durationSeconds": Absent},
        "spec.schedules[0].durationSeconds",
        "Required value",
    ),
    bad(
        "a schedule is a blink", {"spec.schedules.0.durationSeconds": 59}, "spec.schedules[0].durationSeconds", "to 60"
    ),
    bad(
        "a schedule changes nothing",
        {"spec.schedules.0.minReplicas": Absent},
        "spec.schedules[0]",
        "a schedule must set minReplicas, maxReplicas or both",
    ),
    bad(
        "a schedule's minimum is above its maximum",
        {"spec.schedules.0.maxReplicas": 3},
        "spec.schedules[0].minReplicas",
        "minReplicas must be at most maxReplicas of the schedule",
    ),
    bad(
        "a schedule's minimum is above the deployment's maximum",
        {"spec.schedules.0.minReplicas": 30},
        "spec.schedules",
        "while a schedule applies, minReplicas must be at most maxReplicas; set both in the schedule",
    ),
    bad(
        "two schedules have one name",
        {"spec.schedules.1": {"name": "office", "cron": "0 7 * * *", "durationSeconds": 60, "minReplicas": 2}},
        "spec.schedules",
        "Duplicate value",
    ),
    bad("there are no tiers", {"spec.tiers": []}, "spec.tiers", "should have at least 1 items"),
    bad(
        "there are too many tiers",
        {
            "spec.tiers": [
                _LOW | {"quality": "1", "name": f"t{i}", "targetRef": _TARGET | {"name": f"n{i}"}} for i in range(17)
            ]
        },
        "spec.tiers",
        "must have at most 16 items",
    ),
    bad("two tiers have one name", {"spec.tiers.1.name": "bf16"}, "spec.tiers", "Duplicate value"),
    bad("a tier's name is no label", {"spec.tiers.0.name": "BF16"}, "spec.tiers[0].name", "should match"),
    bad(
        "a tier has no accelerator", {"spec.tiers.0.accelerator": Absent}, "spec.tiers[0].accelerator", "Required value"
    ),
    bad(
        "an accelerator's name is none",
        {"spec.tiers.0.accelerator": "NVIDIA H100"},
        "spec.tiers[0].accelerator",
        "should match",
    ),
    bad(
        "a replica needs no accelerator",
        {"spec.tiers.0.acceleratorsPerReplica": 0},
        "spec.tiers[0].acceleratorsPerReplica",
        "greater than or equal to 1",
    ),
    bad(
        "a tier's quality is zero",
        {"spec.tiers.1.quality": "0"},
        "spec.tiers[1].quality",
        'quality must be a decimal string above 0 and at most 1, such as "0.99"',
    ),
    bad(
        "a tier's minimum is above its maximum",
        {"spec.tiers.0.minReplicas": 21},
        "spec.tiers[0].minReplicas",
        "minReplicas must be at most maxReplicas of the tier",
    ),
    bad(
        "the tiers' minimums do not fit",
        {"spec.tiers.0.minReplicas": 20, "spec.tiers.1.minReplicas": 5},
        "spec.tiers",
        "the tiers' minReplicas must add up to at most maxReplicas",
    ),
    bad(
        "the tiers cannot hold the minimum",
        {"spec.minReplicas": 5, "spec.tiers.0.maxReplicas": 2, "spec.tiers.1.maxReplicas": 2},
        "spec.tiers",
        "the maxReplicas of the tiers whose quality is at least quality.minimum must add up to at least minReplicas",
    ),
    bad(
        "the tiers that may be used cannot hold the minimum",
        {"spec.minReplicas": 5, "spec.tiers.0.maxReplicas": 4, "spec.quality": {"minimum": "1"}},
        "spec.tiers",
        "the maxReplicas of the tiers whose quality is at least quality.minimum must add up to at least minReplicas",
    ),
    bad(
        "a tier has both kinds of pods",
        {"spec.tiers.0.targetRef": _TARGET | {"name": "other"}},
        "spec.tiers[0]",
        "exactly one of workload and targetRef must be set, not both",
    ),
    bad(
        "a tier has neither kind of pods",
        {"spec.tiers.1.targetRef": Absent},
        "spec.tiers[1]",
        "exactly one of workload and targetRef must be set",
        offline=False,
    ),
    bad(
        "two tiers move one target",
        {"spec.tiers.2": _LOW | {"quality": "0.98", "targetRef": _TARGET}},
        "spec.tiers",
        "two tiers must not have the same targetRef",
    ),
    bad(
        "a target has no kind",
        {"spec.tiers.1.targetRef.kind": Absent},
        "spec.tiers[1].targetRef.kind",
        "Required value",
    ),
    bad(
        "a target's kind is plural",
        {"spec.tiers.1.targetRef.kind": "deployments"},
        "spec.tiers[1].targetRef.kind",
        "match",
    ),
    bad(
        "a target has no version", {"spec.tiers.1.targetRef.apiVersion": "apps"}, "targetRef.apiVersion", "should match"
    ),
    bad(
        "a target is an InferenceDeployment",
        {"spec.tiers.1.targetRef": {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeployment", "name": "x"}},
        "spec.tiers[1].targetRef.kind",
        "targetRef must name a workload, not an InferenceDeployment",
    ),
    bad("a workload has no image", {"spec.tiers.0.workload.image": Absent}, "workload.image", "Required value"),
    bad(
        "a variable is there twice",
        {"spec.tiers.0.workload.env.1.name": "HF_HUB_OFFLINE"},
        "spec.tiers[0].workload.env",
        "Duplicate value",
    ),
    bad(
        "a variable has a value and a source",
        {"spec.tiers.0.workload.env.1.value": "x"},
        "spec.tiers[0].workload.env[1]",
        "at most one of value and valueFrom may be set",
    ),
    bad(
        "an argument is a number", {"spec.tiers.0.workload.args.1": 8192}, "workload.args[1]", "must be of type string"
    ),
    bad(
        "a quantity is a word",
        {"spec.tiers.0.workload.resources.requests.memory": "plenty"},
        "spec.tiers[0].workload.resources.requests.memory",
        "should match",
    ),
    bad(
        "a coefficient is negative",
        {"spec.tiers.0.performance.prefillBaseMilliseconds": "-3"},
        "spec.tiers[0].performance.prefillBaseMilliseconds",
        "should match",
    ),
    bad(
        "a coefficient is given in the wrong unit",
        {"spec.tiers.0.performance.decodeBaseMilliseconds": "6370000"},
        "spec.tiers[0].performance.decodeBaseMilliseconds",
        "decodeBaseMilliseconds must be a decimal string at least 0 and at most 100000",
    ),
    bad(
        "a replica has no memory",
        {"spec.tiers.0.performance.kvCacheTokens": 0},
        "spec.tiers[0].performance.kvCacheTokens",
        "greater than or equal to 1",
    ),
    bad(
        "the name cannot be a Service",
        {"metadata.name": "8b-chat"},
        "",
        "metadata.name must consist of lower-case letters, digits and '-', start with a letter",
    ),
    bad(
        "the names together are too long for a Deployment",
        {"metadata.name": "c" * 60},
        "",
        "metadata.name and a tier's name together must have at most 62 characters",
    ),
    bad(
        "an accelerator has no price",
        {"spec.pricePerHour": Absent},
        "spec.pricePerHour",
        "Required value",
        base=ACCELERATOR,
    ),
    bad("a price is negative", {"spec.pricePerHour": "-3"}, "spec.pricePerHour", "should match", base=ACCELERATOR),
    bad("a currency is in small letters", {"spec.currency": "usd"}, "spec.currency", "should match", base=ACCELERATOR),
    bad(
        "a capacity is negative", {"spec.capacity": -1}, "spec.capacity", "greater than or equal to 0", base=ACCELERATOR
    ),
    bad("a resource has no name", {"spec.resourceName": "-"}, "spec.resourceName", "should match", base=ACCELERATOR),
    bad(
        "a node label cannot exist",
        {"spec.nodeSelector": {"gpu": "H100 SXM"}},
        "spec.nodeSelector.gpu",
        "should match",
        base=ACCELERATOR,
    ),
]
