"""
One way to serve the model: a tier, the pods it runs in, and what is known about its speed.
"""

import re
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from tidegate.api.fields import (
    LABEL_PATTERN,
    SUBDOMAIN_PATTERN,
    WITHOUT_NULLS,
    ApiModel,
    DecimalString,
    ListMap,
    Rule,
    allowed_only,
)

REPLICAS_MOST = 10_000
# Limits of a coefficient of the law, in ms: no step takes 100 s.
_MS = {"at_least": "0", "at_most": "100000", "example": "6.37"}

# Plain Kubernetes JSON that we pass on: the API server checks it when the Deployment is created.
_ANYTHING = {"x-kubernetes-preserve-unknown-fields": True}
_QUANTITY_PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
_INT_OR_STRING = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
    "maxLength": 32,
    "pattern": _QUANTITY_PATTERN,
}


def _check_quantity(value: object) -> object:
    """The value itself; an error if it cannot be a quantity."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, str) and len(value) <= 32 and re.fullmatch(_QUANTITY_PATTERN, value)):
        raise allowed_only('must be a whole number or a quantity in quotes, such as "500m" or "64Gi"')
    return value


Quantity = Annotated[int | str, BeforeValidator(_check_quantity), WithJsonSchema(_INT_OR_STRING)]
Quantities = Annotated[dict[str, Quantity], Field(max_length=32, description="As in a pod's container."), WITHOUT_NULLS]


class EnvironmentVariable(ApiModel):
    """One environment variable of the vLLM container, as in a pod."""

    name: Annotated[str, Field(min_length=1, max_length=256, description="Name of the variable.")]
    value: Annotated[str | None, Field(max_length=32_768, description="Its value.")] = None
    value_from: Annotated[
        dict[str, Any] | None,
        Field(description="Source of the value, as in a pod's `valueFrom`.", json_schema_extra=_ANYTHING),
    ] = None

    rules: ClassVar = (
        Rule(
            cel="!(has(self.value) && has(self.valueFrom))",
            message="at most one of value and valueFrom may be set",
            holds=lambda v: v.value is None or v.value_from is None,
        ),
    )


class Resources(ApiModel):
    """Resources of the vLLM container; the operator adds the accelerators."""

    requests: Quantities = Field(default_factory=dict)
    limits: Quantities = Field(default_factory=dict)


class Workload(ApiModel):
    """A vLLM Deployment that the operator creates and owns."""

    image: Annotated[
        str,
        Field(
            min_length=1,
            max_length=512,
            description="vLLM image. Its tag tells the operator which flags this version supports.",
        ),
    ]
    model: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            description="What this tier loads, e.g. a quantized build of the model. Absent: spec.model.",
        ),
    ] = None
    args: Annotated[
        list[Annotated[str, Field(max_length=4096)]],
        Field(
            max_length=128,
            description="Arguments of `vllm serve`, appended to the operator's own.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = Field(default_factory=list)
    env: Annotated[
        list[EnvironmentVariable],
        Field(max_length=128, description="Environment variables of the vLLM container."),
        ListMap(key="name"),
    ] = Field(default_factory=list)
    resources: Annotated[
        Resources, Field(description="Requests and limits of the vLLM container, without the accelerators.")
    ] = Resources()
    pod_template: Annotated[
        dict[str, Any],
        Field(
            description="Pod template that is merged (strategic merge) onto the one that the operator builds; the vLLM "
            "container is called `vllm`.",
            json_schema_extra=_ANYTHING,
        ),
    ] = Field(default_factory=dict)


class TargetRef(ApiModel):
    """An object with a scale subresource, in the namespace of the InferenceDeployment."""

    api_version: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^([a-z0-9.-]+/)?v[0-9][a-z0-9]*$",
            description="API version of the object, e.g. `apps/v1`.",
        ),
    ]
    kind: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[A-Z][A-Za-z0-9]*$",
            description="Kind of the object, e.g. `Deployment`.",
        ),
    ]
    name: Annotated[
        str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN, description="Name of the object.")
    ]

    rules: ClassVar = (
        Rule(
            cel="!(self.kind == 'InferenceDeployment' && self.apiVersion.startsWith('tidegate.io/'))",
            message="targetRef must name a workload, not an InferenceDeployment",
            holds=lambda t: not (t.kind == "InferenceDeployment" and t.api_version.startswith("tidegate.io/")),
            field="kind",
        ),
    )


class Performance(ApiModel):
    """
    Prior of the performance law. What is absent comes from the built-in table for the model, accelerator and
    precision. Measurements refine both.
    """

    decode_base_milliseconds: Annotated[
        Annotated[str, DecimalString(what="decodeBaseMilliseconds", **_MS)] | None,
        Field(description="a: fixed duration of a decode step (empty batch)."),
    ] = None
    decode_per_request_milliseconds: Annotated[
        Annotated[str, DecimalString(what="decodePerRequestMilliseconds", **_MS)] | None,
        Field(description="b: added per running request."),
    ] = None
    decode_per_1k_context_milliseconds: Annotated[
        Annotated[str, DecimalString(what="decodePer1kContextMilliseconds", **_MS)] | None,
        Field(
            alias="decodePer1kContextMilliseconds",
            description="c: added per running request and 1000 tokens of its context.",
        ),
    ] = None
    prefill_base_milliseconds: Annotated[
        Annotated[str, DecimalString(what="prefillBaseMilliseconds", **_MS)] | None,
        Field(description="p0: prefill of a prompt, independent of its length."),
    ] = None
    prefill_per_1k_tokens_milliseconds: Annotated[
        Annotated[str, DecimalString(what="prefillPer1kTokensMilliseconds", **_MS)] | None,
        Field(alias="prefillPer1kTokensMilliseconds", description="p1: added per 1000 prompt tokens."),
    ] = None
    kv_cache_tokens: Annotated[
        int | None, Field(ge=1, le=10**9, description="Size of one replica's KV cache in tokens.")
    ] = None
    max_running_requests: Annotated[
        int | None, Field(ge=1, le=100_000, description="Most requests that run at once: vLLM's `--max-num-seqs`.")
    ] = None


class Tier(ApiModel):
    """One way to serve the model: precision x accelerator x parallelism."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=40,
            pattern=LABEL_PATTERN,
            description="Name of the tier, unique in the list, e.g. `fp8`.",
        ),
    ]
    quality: Annotated[
        Annotated[str, DecimalString(what="quality", above="0", at_most="1", example="0.99")],
        Field(description="Quality score relative to the model in full precision."),
    ] = "1"
    accelerator: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN, description="Name of the AcceleratorClass."),
    ]
    accelerators_per_replica: Annotated[int, Field(ge=1, le=256, description="Accelerators that one replica uses.")] = 1
    min_replicas: Annotated[
        int, Field(ge=0, le=REPLICAS_MOST, description="Minimum number of replicas of this tier.")
    ] = 0
    max_replicas: Annotated[
        int | None,
        Field(ge=0, le=REPLICAS_MOST, description="Maximum number of replicas of this tier. Absent: spec.maxReplicas."),
    ] = None
    workload: Annotated[
        Workload | None, Field(description="Managed tier: the operator creates and owns a vLLM Deployment.")
    ] = None
    target_ref: Annotated[
        TargetRef | None,
        Field(description="Adopted tier: the operator scales an existing object and changes nothing else."),
    ] = None
    performance: Annotated[
        Performance | None,
        Field(description="Known performance of this tier, overriding the built-in table field by field."),
    ] = None

    rules: ClassVar = (
        Rule(
            cel="!(has(self.workload) && has(self.targetRef))",
            message="exactly one of workload and targetRef must be set, not both",
            holds=lambda t: t.workload is None or t.target_ref is None,
        ),
        Rule(
            cel="has(self.workload) || has(self.targetRef)",
            message="exactly one of workload and targetRef must be set",
            holds=lambda t: t.workload is not None or t.target_ref is not None,
            cluster_only=True,
        ),
        Rule(
            cel="!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            message="minReplicas must be at most maxReplicas of the tier",
            holds=lambda t: t.max_replicas is None or t.min_replicas <= t.max_replicas,
            field="minReplicas",
        ),
    )
