"""
Configuration of a real Prometheus that discovers the pods through the API server.

In:    where targets come from, a port, the scrape interval.
Out:   its configuration file and its command line.

Pods are discovered as in any cluster, by Kubernetes service discovery, and get the labels that a PodMonitor of the
Prometheus operator would give them (`namespace`, `pod`, `container`, `node`, `job`). Only the address is special: a pod
reports 10.244.n.m and listens on 127.244.n.m. A Prometheus that was built without Kubernetes discovery uses ours
(`discovery`) and gets the same labels.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.nodes import EXPORTER_PORT

HOST = "127.0.0.1"
REFRESH = "1s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """
    Where Prometheus gets its targets from.

    Args:
        account: An account that may list pods and nodes.
        token_file: File with its token.
        front_port: Port of the front end's `/metrics` and of our own discovery.
        own_discovery: Whether this Prometheus includes Kubernetes service discovery.
    """

    account: Account
    token_file: Path
    front_port: int
    own_discovery: bool

    def discovery(self, role: str) -> Object:
        """The part of a scrape configuration that discovers pods or nodes."""
        if not self.own_discovery:
            url = f"http://{HOST}:{self.front_port}/targets/{role}s"
            return {"http_sd_configs": [{"url": url, "refresh_interval": REFRESH}]}
        found: Object = {
            "role": role,
            "api_server": self.account.url,
            "authorization": {"type": "Bearer", "credentials_file": str(self.token_file)},
        }
        if self.account.ca_file is not None:
            found["tls_config"] = {"ca_file": str(self.account.ca_file)}
        return {"kubernetes_sd_configs": [found]}


def configuration(sources: Sources, *, interval_s: float) -> str:
    """The configuration file; `interval_s` is the scrape interval."""
    front = {"job_name": "front", "static_configs": [{"targets": [f"{HOST}:{sources.front_port}"]}]}
    interval = f"{round(interval_s * 1000)}ms"
    document = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": [_pods(sources), _gpus(sources), front],
    }
    return str(yaml.safe_dump(document, sort_keys=False))


def command(program: Path, *, config: Path, data: Path, port: int) -> list[str]:
    """The command line; Prometheus listens on loopback and keeps one day."""
    return [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=1d",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    ]


def _pods(sources: Sources) -> Object:
    """vLLM's own metrics, from every running pod with a port named `http` or `metrics`."""
    rules = [
        _keep("__meta_kubernetes_pod_phase", "Running"),
        _keep("__meta_kubernetes_pod_container_port_name", "http|metrics"),
        _listening(),
        *(_copy(f"__meta_kubernetes_{name}", label) for name, label in _POD_LABELS),
    ]
    return {"job_name": "pods", **sources.discovery("pod"), "relabel_configs": rules}


_POD_LABELS = (
    ("namespace", "namespace"),
    ("pod_name", "pod"),
    ("pod_container_name", "container"),
    ("pod_node_name", "node"),
)


def _gpus(sources: Sources) -> Object:
    """dcgm-exporter's metrics, from every node; its own `pod` and `namespace` labels are kept."""
    rules = [
        {
            "source_labels": ["__address__"],
            "regex": r"([^:]+)(?::\d+)?",
            "target_label": "__address__",
            "replacement": f"$1:{EXPORTER_PORT}",
        },
        _listening(),
        _copy("__meta_kubernetes_node_name", "node"),
    ]
    return {
        "job_name": "dcgm-exporter",
        "honor_labels": True,
        **sources.discovery("node"),
        "relabel_configs": rules,
    }


def _listening() -> Object:
    """Replace the address that a pod reports by the one it listens on (see `kubelet.addresses`)."""
    return {
        "source_labels": ["__address__"],
        "regex": r"10\.244\.(.+)",
        "target_label": "__address__",
        "replacement": "127.244.$1",
    }


def _keep(label: str, regex: str) -> Object:
    return {"source_labels": [label], "regex": regex, "action": "keep"}


def _copy(label: str, target: str) -> Object:
    return {"source_labels": [label], "target_label": target}
