"""The two custom resources as whole objects: names, metadata, spec and status."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from tidegate.api.accelerator import AcceleratorClassSpec
from tidegate.api.deployment import InferenceDeploymentSpec
from tidegate.api.fields import ApiModel
from tidegate.api.rules import NAME_RULES
from tidegate.api.status import AcceleratorClassStatus, InferenceDeploymentStatus
from tidegate.ports import GROUP, VERSION

API_VERSION = f"{GROUP}/{VERSION}"
# The status until the operator has written one. No generation is 0, so tools that wait for readiness do not mistake a
# new object for a ready one.
UNSEEN: dict[str, Any] = {"default": {"observedGeneration": 0}}


class Metadata(ApiModel):
    """The part of an object's metadata that we read; its schema is Kubernetes' own."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: str = "default"
    labels: dict[str, str | None] = Field(default_factory=dict)
    annotations: dict[str, str | None] = Field(default_factory=dict)


class InferenceDeployment(ApiModel):
    """One LLM, served at the lowest cost that keeps its latency promises."""

    metadata: Metadata
    spec: Annotated[InferenceDeploymentSpec, Field(description="Desired state.")]
    status: Annotated[
        InferenceDeploymentStatus | None,
        Field(description="What was observed and decided. Written only by the operator.", json_schema_extra=UNSEEN),
    ] = None

    rules: ClassVar = NAME_RULES


class AcceleratorClass(ApiModel):
    """A kind of accelerator, its price, and how many there are."""

    metadata: Metadata
    spec: Annotated[AcceleratorClassSpec, Field(description="Desired state.")]
    status: Annotated[
        AcceleratorClassStatus | None,
        Field(description="What the cluster has of the class. Written only by the operator.", json_schema_extra=UNSEEN),
    ] = None


KINDS: dict[str, type[InferenceDeployment] | type[AcceleratorClass]] = {
    "InferenceDeployment": InferenceDeployment,
    "AcceleratorClass": AcceleratorClass,
}
