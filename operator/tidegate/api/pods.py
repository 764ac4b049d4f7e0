"""
Checks of a tier's pods that no schema can express: Kubernetes JSON that we pass on must have the shape that merging and
sending require.

In:    a validated spec, and what it was converted to.
Out:   nothing, or a SpecError that names field, value and what is allowed.
Rules: pure. Invalid content of the right shape is left to the API server.
"""

from tidegate.actuate import pod
from tidegate.api.deployment import InferenceDeploymentSpec
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import SpecError

# A pod is at most about ten levels deep (the terms of an affinity, the sources of a projected volume).
LEVELS_MOST = 32


def check_depth(model: InferenceDeploymentSpec) -> None:
    """Reject JSON that is nested deeper than any pod: recursive code would run out of stack."""
    for i, tier in enumerate(model.tiers):
        path = f"spec.tiers[{i}].workload"
        if tier.workload is None:
            continue
        _check(tier.workload.pod_template, f"{path}.podTemplate")
        for k, variable in enumerate(tier.workload.env):
            _check(variable.value_from, f"{path}.env[{k}].valueFrom")


def try_on(spec: DeploymentSpec) -> None:
    """
    Merge each pod template once to find errors. Any accelerator class will do, since it does not affect the shape.
    """
    for tier in spec.tiers:
        if tier.workload is not None:
            pod.template(spec, tier, Accelerator(name=tier.accelerator, price_usd_per_hour=0.0))


def _check(value: object, path: str) -> None:
    if not _fits(value, LEVELS_MOST):
        raise SpecError(field=path, value=None, allowed=f"must be nested at most {LEVELS_MOST} levels deep")


def _fits(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_fits(each, levels - 1) for each in inner)
