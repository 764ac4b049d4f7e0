"""
The operator's service account and its permissions: the chart's RBAC rules, without Helm.

In:    a namespace and a name; the chart in this clone.
Out:   manifests.
"""

from pathlib import Path

import yaml

from tidegate.errors import SourceError
from tidegate.sandbox.kube import Object

RBAC = "rbac.authorization.k8s.io"
RULES = Path(__file__).parents[4] / "charts" / "tidegate" / "files" / "rbac.yaml"


def rights(namespace: str, name: str) -> list[Object]:
    """
    Manifests of the namespace, the account and the two roles of an operator that serves all namespaces.

    Raises:
        SourceError: The chart is missing, because this is not a clone.
    """
    if not RULES.exists():
        raise SourceError(
            source="chart", reason="NotFound", detail=f"{RULES}: the demo needs a clone of the repository"
        )
    rules = yaml.safe_load(RULES.read_text())
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
        _object("ClusterRole", {"name": name}, rules=rules["cluster"] + rules["namespaced"]),
        _object("ClusterRoleBinding", {"name": name}, roleRef=_reference("ClusterRole", name), subjects=subjects),
        _object("Role", {"name": name, "namespace": namespace}, rules=rules["own"]),
        _object(
            "RoleBinding",
            {"name": name, "namespace": namespace},
            roleRef=_reference("Role", name),
            subjects=subjects,
        ),
    ]


def _object(kind: str, metadata: Object, **fields: object) -> Object:
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, **fields}


def _reference(kind: str, name: str) -> Object:
    return {"apiGroup": RBAC, "kind": kind, "name": name}
