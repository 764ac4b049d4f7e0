"""
Node and Lease objects, as the kubelet and NVIDIA's GPU operator would write them.

In:    a `Machine`.
Out:   API objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.addresses import node_address

GPU_RESOURCE = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"
LEASE_NAMESPACE = "kube-node-lease"
LEASE_S = 40
RENEW_S = 10.0
KUBELET_VERSION = "v1.36.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """
    One node.

    Args:
        name: Name of the node.
        number: Third byte of its addresses, 0 to 255, unique.
        product: Value of the label `nvidia.com/gpu.product`, e.g. `NVIDIA-H100-80GB-HBM3`.
        gpus: Number of GPUs.
        gpu_memory_gib: Memory of one GPU, GiB.
        resource: Kubernetes resource name of the GPUs.
        labels: Additional labels, e.g. those by which an AcceleratorClass selects its nodes.
    """

    name: str
    number: int
    product: str
    gpus: int
    gpu_memory_gib: int = 80
    resource: str = GPU_RESOURCE
    labels: Mapping[str, str] = field(default_factory=dict)


def node_object(machine: Machine) -> Object:
    """The Node object without its status."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": machine.name,
            "labels": {
                "kubernetes.io/hostname": machine.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                PRODUCT_LABEL: machine.product,
                "nvidia.com/gpu.count": str(machine.gpus),
                "nvidia.com/gpu.memory": str(machine.gpu_memory_gib * 1024),
                "nvidia.com/gpu.present": "true",
                "sandbox.tidegate.io/hollow": "true",
                **machine.labels,
            },
        },
    }


def node_status(machine: Machine, now: datetime) -> Object:
    """The Node's status: ready, with its GPUs."""
    amounts = {
        "cpu": "192",
        "memory": "2Ti",
        "ephemeral-storage": "10Ti",
        "pods": "250",
        machine.resource: str(machine.gpus),
    }
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "addresses": [
            {"type": "InternalIP", "address": node_address(machine.number)},
            {"type": "Hostname", "address": machine.name},
        ],
        "conditions": [_condition(*fields, now=now) for fields in _CONDITIONS],
        "nodeInfo": {
            "kubeletVersion": KUBELET_VERSION,
            "containerRuntimeVersion": "tidegate-sandbox://0",
            "osImage": "none, this node is hollow",
            "architecture": "amd64",
            "operatingSystem": "linux",
            **dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "kubeProxyVersion"), ""),
        },
    }


_CONDITIONS = (
    ("Ready", "True", "KubeletReady"),
    ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID"),
)


def _condition(kind: str, status: str, reason: str, *, now: datetime) -> Object:
    stamp = timestamp(now)
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "reported by the sandbox",
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": stamp,
    }


def lease_object(machine: Machine, now: datetime) -> Object:
    """The Lease that is the node's heartbeat. Without renewal the node is marked unreachable after 40 s."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": machine.name, "namespace": LEASE_NAMESPACE},
        "spec": {
            "holderIdentity": machine.name,
            "leaseDurationSeconds": LEASE_S,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }


def timestamp(now: datetime) -> str:
    """A UTC time in Kubernetes' format."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
