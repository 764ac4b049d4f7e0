"""The CustomResourceDefinitions: names, columns and subresources around the generated schemas."""

from typing import Any

import yaml

from tidegate.api.resources import AcceleratorClass, InferenceDeployment
from tidegate.api.schema import structural
from tidegate.ports import GROUP, VERSION

Manifest = dict[str, Any]

_READY = '.status.conditions[?(@.type=="Ready")]'
_SLO_MET = '.status.conditions[?(@.type=="SLOMet")]'


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, description: str = "") -> Manifest:
    column: Manifest = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"description": description} if description else {}) | ({"priority": 1} if wide else {})


DEPLOYMENT_COLUMNS = [
    _column("Mode", ".spec.mode"),
    _column("Tiers", ".status.mix", description="Replicas that the last decision asks for, by tier."),
    _column("Replicas", ".status.replicas", "integer", description="Replicas that exist."),
    _column("Up", ".status.readyReplicas", "integer", description="Ready replicas."),
    _column("SLO", _SLO_MET + ".status", description="Whether the promised share of requests meets both targets."),
    _column("$/h", ".status.cost.perHour", description="Cost of the replicas per hour."),
    _column("Ready", _READY + ".status"),
    _column("Age", ".metadata.creationTimestamp", "date"),
    _column("Model", ".spec.model", wide=True),
    _column("Attainment", ".status.goodput.attainment", wide=True),
    _column("Reason", ".status.decision.reason", wide=True),
    _column("Message", ".status.decision.message", wide=True),
]

ACCELERATOR_COLUMNS = [
    _column("Resource", ".spec.resourceName"),
    _column("Price/h", ".spec.pricePerHour"),
    _column("Currency", ".spec.currency"),
    _column("Allocatable", ".status.allocatable", "integer", description="Accelerators that the matching nodes offer."),
    _column(
        "Tidegate",
        ".status.allocatedByTidegate",
        "integer",
        description="Accelerators held by replicas that Tidegate scales.",
    ),
    _column("Others", ".status.allocatedByOthers", "integer", description="Accelerators held by other pods."),
    _column("Ready", _READY + ".status"),
    _column("Age", ".metadata.creationTimestamp", "date"),
]

SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def inference_deployments() -> Manifest:
    """The CRD of InferenceDeployment."""
    return _definition(
        scope="Namespaced",
        names=_names("InferenceDeployment", short="infd"),
        version={
            "schema": {"openAPIV3Schema": structural(InferenceDeployment)},
            "subresources": {"status": {}, "scale": SCALE},
            "additionalPrinterColumns": DEPLOYMENT_COLUMNS,
        },
    )


def accelerator_classes() -> Manifest:
    """The CRD of AcceleratorClass."""
    return _definition(
        scope="Cluster",
        names=_names("AcceleratorClass", short="accel", plural="acceleratorclasses"),
        version={
            "schema": {"openAPIV3Schema": structural(AcceleratorClass)},
            "subresources": {"status": {}},
            "additionalPrinterColumns": ACCELERATOR_COLUMNS,
        },
    )


def files() -> dict[str, str]:
    """File name -> YAML of every CRD."""
    definitions = (inference_deployments(), accelerator_classes())
    return {f"{d['metadata']['name']}.yaml": _yaml(d) for d in definitions}


def _names(kind: str, *, short: str, plural: str = "") -> Manifest:
    return {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural or f"{kind.lower()}s",
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": ["tidegate"],
    }


def _definition(*, scope: str, names: Manifest, version: Manifest) -> Manifest:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": names,
            "versions": [{"name": VERSION, "served": True, "storage": True} | version],
        },
    }


def _yaml(manifest: Manifest) -> str:
    head = "# Generated from the models in operator/tidegate/api by `tidegate crds --write crds`. Do not edit.\n"
    return head + yaml.dump(manifest, Dumper=_NoAliases, sort_keys=False, width=100, allow_unicode=True)


class _NoAliases(yaml.SafeDumper):
    """Writes a value that occurs twice in full each time: not all Kubernetes tools read YAML anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """Always."""
        return True
