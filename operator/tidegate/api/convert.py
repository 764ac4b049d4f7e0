"""
From a custom resource to what the core works with: every default filled in, every unit converted, once.

In:    plain JSON, as from the API server, a file or a script.
Out:   `DeploymentSpec` and `Accelerator`, or a SpecError with field, value and what is allowed.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tidegate.api import pods
from tidegate.api.accelerator import AcceleratorClassSpec
from tidegate.api.deployment import InferenceDeploymentSpec
from tidegate.api.deployment import Schedule as ScheduleModel
from tidegate.api.fields import OFFLINE, ApiModel
from tidegate.api.resources import AcceleratorClass, InferenceDeployment
from tidegate.api.tier import Performance, Tier, Workload
from tidegate.domain import spec as domain
from tidegate.domain.key import Key
from tidegate.errors import SpecError, shown
from tidegate.ports import own_workload, workload_ref
from tidegate.units import KILO, seconds

Json = Mapping[str, Any]
Model = TypeVar("Model", bound=ApiModel)

PAUSED_ANNOTATION = "tidegate.io/paused"
# Node labels that name the product, so that the shipped table applies whatever the class is called.
PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "amd.com/gpu.product-name",
)
# Start of the search for the next match of a cron expression: the result must not depend on today.
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def deployment_spec(key: Key, spec: object, *, offline: bool = False) -> domain.DeploymentSpec:
    """
    What an InferenceDeployment's `spec` asks for.

    Args:
        key: Namespace and name of the deployment.
        spec: Plain JSON of the spec.
        offline: Used without a cluster (plan, backtest): tiers need neither workload nor targetRef, numbers may replace
            decimal strings, 2.0 may replace 2, and minReplicas 0 without scaleToZero is read as 1.

    Raises:
        SpecError: names the first invalid field, its value and what is allowed.
    """
    model = parse(InferenceDeploymentSpec, spec, path="spec", offline=offline)
    return _deployment(key, model)


def accelerator(name: str, spec: object, *, offline: bool = False) -> domain.Accelerator:
    """What an AcceleratorClass' `spec` states; arguments and errors as in `deployment_spec`."""
    model = parse(AcceleratorClassSpec, spec, path="spec", offline=offline)
    return _accelerator(name, model)


def is_paused(annotations: Mapping[str, str | None]) -> bool:
    """Whether the annotation pauses the deployment."""
    return (annotations.get(PAUSED_ANNOTATION) or "").lower() == "true"


def deployment_of(manifest: Json, *, offline: bool = False) -> domain.DeploymentSpec:
    """A whole InferenceDeployment; its name is checked too."""
    model = parse(InferenceDeployment, manifest, offline=offline)
    key = Key(model.metadata.namespace, model.metadata.name)
    return _deployment(key, model.spec, paused=is_paused(model.metadata.annotations))


def accelerator_of(manifest: Json, *, offline: bool = False) -> domain.Accelerator:
    """A whole AcceleratorClass."""
    model = parse(AcceleratorClass, manifest, offline=offline)
    return _accelerator(model.metadata.name, model.spec)


def parse(kind: type[Model], value: object, *, path: str = "", offline: bool = False) -> Model:
    """The model of a piece of JSON; if invalid, a SpecError whose field starts with `path`."""
    try:
        return kind.model_validate(value, context={OFFLINE: offline}, by_alias=True, by_name=False)
    except ValidationError as fault:
        raise _spec_error(path, fault.errors()) from None


def _spec_error(path: str, errors: Sequence[ErrorDetails]) -> SpecError:
    """The first error of an object, with the number of further errors and the fields of the next three."""
    first = errors[0]
    field = path_of(first, path)
    allowed = _allowed(first)
    if len(errors) > 1:
        allowed += f" (and {len(errors) - 1} more: {', '.join(path_of(e, path) for e in errors[1:4])})"
    return SpecError(field=field, value=_shown(first), allowed=allowed)


def path_of(error: ErrorDetails, path: str = "") -> str:
    """The field of a validation error, below `path`: `spec.tiers[1].quality`."""
    pinned = error.get("ctx", {}).get("field")
    for part in (*error["loc"], *([pinned] if pinned else [])):
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "object"


def _shown(error: ErrorDetails) -> object:
    value = error["input"]
    pinned = error.get("ctx", {}).get("field")
    if pinned and isinstance(value, Mapping):
        value = value.get(pinned)
    if error["type"] == "missing":
        return None
    return shown(value)


def _allowed(error: ErrorDetails) -> str:
    if error["type"] == "rule":
        return str(error["ctx"]["allowed"])
    if error["type"] == "missing":
        return "is required"
    if error["type"] in ("model_type", "dict_type"):
        return "must be a mapping"
    message = re.sub(r"^(Input|String|List|Dictionary|Value) should ", "must ", error["msg"])
    message = message[0].lower() + message[1:]
    if error["type"] == "enum" and isinstance(error["input"], bool):
        message += " (quote it: YAML reads a bare Off, On, Yes or No as true or false)"
    return message


def _deployment(key: Key, model: InferenceDeploymentSpec, *, paused: bool = False) -> domain.DeploymentSpec:
    pods.check_depth(model)
    least = model.min_replicas if model.scale_to_zero else max(1, model.min_replicas)
    spec = domain.DeploymentSpec(
        key=key,
        model=model.model,
        slo=domain.Slo(
            ttft_s=seconds(model.slo.ttft_milliseconds),
            itl_s=seconds(model.slo.itl_milliseconds),
            attainment=float(model.slo.attainment),
        ),
        tiers=tuple(_tier(tier, model) for tier in model.tiers),
        mode=model.mode,
        replicas_pinned=model.replicas,
        replicas_min=least,
        replicas_max=model.max_replicas,
        priority=model.priority,
        cost=domain.Cost(
            budget_usd_per_hour=_number(model.cost.budget_per_hour),
            target_usd_per_million_output_tokens=_number(model.cost.target_per_million_output_tokens),
        ),
        quality=domain.Quality(
            minimum=float(model.quality.minimum),
            average_minimum=float(model.quality.average_minimum or model.quality.minimum),
        ),
        scale_to_zero=_scale_to_zero(model),
        scale_down_window_s=float(model.scale_down.stabilization_window_seconds),
        schedules=tuple(_schedule(i, schedule) for i, schedule in enumerate(model.schedules)),
        paused=paused,
    )
    _check_targets(spec)
    pods.try_on(spec)
    return spec


def _check_targets(spec: domain.DeploymentSpec) -> None:
    """Reject a target that is the Deployment made for another tier: each tier would undo the other's scaling."""
    made = {own_workload(spec.key, tier.name): tier.name for tier in spec.tiers if tier.workload is not None}
    for i, tier in enumerate(spec.tiers):
        ref = workload_ref(spec.key, tier)
        if tier.target_ref is not None and ref in made:
            allowed = f"must not be the Deployment that Tidegate creates for tier {made[ref]}; rename that tier"
            raise SpecError(field=f"spec.tiers[{i}].targetRef.name", value=ref.name, allowed=allowed)


def _tier(tier: Tier, model: InferenceDeploymentSpec) -> domain.TierSpec:
    return domain.TierSpec(
        name=tier.name,
        quality=float(tier.quality),
        accelerator=tier.accelerator,
        accelerators_per_replica=tier.accelerators_per_replica,
        replicas_min=tier.min_replicas,
        replicas_max=_replicas_max(model) if tier.max_replicas is None else tier.max_replicas,
        workload=_workload(tier.workload) if tier.workload else None,
        target_ref=domain.TargetRef(**tier.target_ref.model_dump()) if tier.target_ref else None,
        hint=_hint(tier.performance) if tier.performance else domain.PerformanceHint(),
    )


def _replicas_max(model: InferenceDeploymentSpec) -> int:
    """The highest bound on the total that is ever in force. The current bound limits it at each instant."""
    return max([model.max_replicas, *(s.max_replicas for s in model.schedules if s.max_replicas is not None)])


def _workload(model: Workload) -> domain.WorkloadTemplate:
    plain = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return domain.WorkloadTemplate(
        image=model.image,
        model=model.model,
        args=tuple(model.args),
        env=tuple(plain["env"]),
        resources={kind: amounts for kind, amounts in plain["resources"].items() if amounts},
        pod_template=plain["podTemplate"],
    )


def _hint(model: Performance) -> domain.PerformanceHint:
    return domain.PerformanceHint(
        a_s=_seconds(model.decode_base_milliseconds),
        b_s=_seconds(model.decode_per_request_milliseconds),
        c_s=_seconds(model.decode_per_1k_context_milliseconds, per=KILO),
        p0_s=_seconds(model.prefill_base_milliseconds),
        p1_s=_seconds(model.prefill_per_1k_tokens_milliseconds, per=KILO),
        kv_cache_tokens=_number(model.kv_cache_tokens),
        running_max=_number(model.max_running_requests),
    )


def _scale_to_zero(model: InferenceDeploymentSpec) -> domain.ScaleToZero | None:
    if model.scale_to_zero is None:
        return None
    return domain.ScaleToZero(
        idle_s=float(model.scale_to_zero.idle_seconds), activation_query=model.scale_to_zero.activation_query
    )


def _schedule(index: int, model: ScheduleModel) -> domain.Schedule:
    """A schedule; checks that its time zone exists and its cron expression ever matches, which no schema can."""
    path = f"spec.schedules[{index}]"
    try:
        ZoneInfo(model.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SpecError(
            field=f"{path}.timeZone",
            value=model.time_zone,
            allowed="must be an IANA time zone such as Europe/Berlin",
        ) from None
    if not _fires(model.cron):
        raise SpecError(
            field=f"{path}.cron",
            value=model.cron,
            allowed="must be five cron fields (minute, hour, day of month, month, day of week) that match some date",
        )
    return domain.Schedule(
        name=model.name,
        cron=model.cron,
        time_zone=model.time_zone,
        duration_s=float(model.duration_seconds),
        replicas_min=model.min_replicas,
        replicas_max=model.max_replicas,
    )


def _fires(cron: str) -> bool:
    """Whether the text is a cron expression that ever matches; a 29th of February comes within eight years."""
    try:
        croniter(cron, _SOME_DAY, max_years_between_matches=8).get_next()
    except (CroniterError, ValueError):
        return False
    return True


def _accelerator(name: str, model: AcceleratorClassSpec) -> domain.Accelerator:
    products = [model.node_selector[label] for label in PRODUCT_LABELS if label in model.node_selector]
    return domain.Accelerator(
        name=name,
        price_usd_per_hour=float(model.price_per_hour),
        capacity=model.capacity,
        memory_gib=_number(model.memory_gi_b),
        board_power_w=_number(model.board_power_watts),
        product=products[0] if products else "",
        resource_name=model.resource_name,
        node_selector=dict(model.node_selector),
        currency=model.currency,
    )


def _number(value: str | int | None) -> float | None:
    return None if value is None else float(value)


def _seconds(milliseconds: str | None, *, per: float = 1.0) -> float | None:
    return None if milliseconds is None else seconds(float(milliseconds)) / per
