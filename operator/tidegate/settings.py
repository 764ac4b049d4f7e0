"""
Every setting of an installation, each defined once: name, unit, range, default, and the reason for the default.

In:    texts, from flags or from environment variables (`TIDEGATE_` and the name in capitals).
Out:   valid `Settings`, or a `SpecError` that names flag and variable.
Rules: users state what they want for a model in the custom resources; only what belongs to the installation is here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidegate.errors import SpecError

ENV_PREFIX = "TIDEGATE_"
SHARD_LABEL = "tidegate.io/shard"
# A Kubernetes label name, with an optional prefix before a slash.
LABEL_NAME = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
# A namespace; also part of the names of the Lease and the memory.
DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"


def _setting(default: Any, about: str, **limits: Any) -> Any:
    """A field with what `--help` and validation need: its description, and `low`, `high` or `choices`."""
    return field(default=default, metadata={"about": about, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusSettings:
    """How to ask Prometheus. Lists are comma-separated texts; an empty text means "not set"."""

    prometheus_url: str = _setting(
        "", "Base URL of Prometheus, Thanos, Mimir or VictoriaMetrics, with its prefix if it has one. Required."
    )
    prometheus_token_file: str = _setting("", "File with a bearer token; read again for each query.")
    prometheus_user: str = _setting("", "User for basic authentication.")
    prometheus_password_file: str = _setting("", "File with the password for basic authentication.")
    prometheus_headers: str = _setting(
        "", "Extra request headers: `Name: value`, comma-separated, e.g. `X-Scope-OrgID: team`."
    )
    prometheus_ca_file: str = _setting("", "CA certificates to trust instead of the system's.")
    prometheus_insecure: bool = _setting(False, "Skip verification of Prometheus' certificate.")
    prometheus_matchers: str = _setting(
        "", "Labels every series must have: `label=value`, comma-separated, e.g. `cluster=eu-1` on a shared server."
    )
    prometheus_namespace_label: str = _setting("namespace", "Label that names the scraped pod's namespace.")
    prometheus_pod_label: str = _setting("pod", "Label that names the scraped pod.")

    def __post_init__(self) -> None:
        _check_url(self.prometheus_url)
        for name in ("prometheus_token_file", "prometheus_password_file", "prometheus_ca_file"):
            _check_file(name, getattr(self, name))
        if self.prometheus_token_file and self.prometheus_user:
            raise _wrong("prometheus_user", self.prometheus_user, "must be empty if a token file is set")
        if bool(self.prometheus_user) != bool(self.prometheus_password_file):
            raise _wrong("prometheus_user", self.prometheus_user, "must be set together with a password file")
        for name in ("prometheus_namespace_label", "prometheus_pod_label"):
            _check_label(name, getattr(self, name))
        for label, value in self.matchers.items():
            _check_label("prometheus_matchers", label)
            if value.startswith(('"', "'")):
                raise _wrong("prometheus_matchers", f"{label}={value}", "must be label=value without quotation marks")
        self.headers  # noqa: B018 -- raises if its text is invalid

    @property
    def headers(self) -> dict[str, str]:
        """`prometheus_headers`, parsed."""
        return _pairs("prometheus_headers", self.prometheus_headers, ":", secret=True)

    @property
    def matchers(self) -> dict[str, str]:
        """`prometheus_matchers`, parsed."""
        return _pairs("prometheus_matchers", self.prometheus_matchers, "=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PrometheusSettings):
    """The installation's settings."""

    window: float = _setting(
        60.0,
        "Window for rates, in seconds: at least twice the scrape interval (the default holds four scrapes of 15 s).",
        low=10,
        high=600,
    )
    stale: float = _setting(
        60.0,
        "Age at which a pod's samples are too old to use, in seconds: well above the scrape interval.",
        low=10,
        high=600,
    )
    history_days: float = _setting(
        8.0,
        "Days of demand history read from Prometheus at start: eight show the weekly season; 0 reads none.",
        low=0,
        high=60,
    )
    tick: float = _setting(
        15.0, "Seconds between plans: planning more often than Prometheus scrapes gains nothing.", low=5, high=60
    )
    kubeconfig: str = _setting(
        "", "Path of a kubeconfig; empty: the pod's service account, else the default kubeconfig."
    )
    context: str = _setting("", "Context in the kubeconfig, which is then used in a pod, too.")
    namespace: str = _setting("", "The only namespace to manage; empty: all.")
    shard: str = _setting(
        "",
        f"Manage only InferenceDeployments whose label `{SHARD_LABEL}` has this (lower-case) value; empty: those "
        "without the label.",
    )
    operator_namespace: str = _setting("tidegate-system", "Namespace of the Lease and of the saved memory.")
    identity: str = _setting("", "Holder identity in the Lease; empty: the host name and a random suffix.")
    leader_election: bool = _setting(True, "Use leader election; without it this process always acts.")
    memory_interval: float = _setting(
        300.0, "Seconds between saves of what was learned: a crash loses at most this much.", low=30, high=3600
    )
    pod_monitor_labels: str = _setting(
        "",
        "Extra labels for the PodMonitors that Tidegate creates: `label=value`, comma-separated, e.g. "
        "`release=kube-prometheus-stack` where Prometheus selects PodMonitors by label.",
    )
    writes_per_second: float = _setting(
        20.0,
        "Maximum API writes per second, with bursts of twice as many.",
        low=1,
        high=500,
    )
    listen: str = _setting(
        ":8080",
        "Address and port of /metrics, /healthz and /readyz; without an address: all of them, IPv4 and IPv6; port 0: "
        "any free port.",
    )
    log_format: str = _setting("text", "Log format.", choices=("text", "json"))
    log_level: str = _setting("info", "Lowest severity that is logged.", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        PrometheusSettings.__post_init__(self)
        _check_file("kubeconfig", self.kubeconfig)
        if not self.operator_namespace:
            raise _wrong("operator_namespace", "", "must be the namespace of the Lease and of the saved memory")
        for name in ("namespace", "shard", "operator_namespace"):
            _check_dns_label(name, getattr(self, name))
        for name, value in self.monitor_labels.items():
            if not re.fullmatch(LABEL_NAME, name) or not re.fullmatch(LABEL_VALUE, value):
                raise _wrong("pod_monitor_labels", f"{name}={value}", "must be names and values of Kubernetes labels")
        self.address  # noqa: B018 -- raises if its text is invalid

    @property
    def monitor_labels(self) -> dict[str, str]:
        """`pod_monitor_labels`, parsed."""
        return _pairs("pod_monitor_labels", self.pod_monitor_labels, "=")

    @property
    def address(self) -> tuple[str, int]:
        """`listen`, parsed; an empty host means every address."""
        host, mark, port = self.listen.rpartition(":")
        if not mark or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise _wrong("listen", self.listen, "must be ADDRESS:PORT or :PORT, e.g. :8080")
        return host.strip("[]"), int(port)


def _wrong(name: str, value: object, allowed: str) -> SpecError:
    return SpecError(field=f"{flag(name)} ({ENV_PREFIX}{name.upper()})", value=value, allowed=allowed)


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def _check(name: str, value: object, limits: Mapping[str, Any]) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise _wrong(name, value, "must be one of " + ", ".join(limits["choices"]))
    if "low" in limits and not (isinstance(value, int | float) and limits["low"] <= value <= limits["high"]):
        raise _wrong(name, value, f"must be from {limits['low']} to {limits['high']}")


def _check_file(name: str, path: str) -> None:
    if path and not Path(path).is_file():
        raise _wrong(name, path, "must be an existing file")


def _check_url(url: str) -> None:
    if not url:
        raise _wrong(
            "prometheus_url", url, "must be the URL of a Prometheus-compatible server, e.g. http://prometheus:9090"
        )
    if "@" in url:
        # A password may contain any mark of a URL, so what precedes the last @ is never shown.
        raise _wrong("prometheus_url", f"...@{url.rpartition('@')[2]}", "must not contain credentials; use the files")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # unbalanced brackets, or an invalid port
        whole = False
    if not whole or parts.query or parts.fragment:
        raise _wrong("prometheus_url", url, "must be http://HOST[:PORT][/PREFIX], or the same with https")


def _check_label(name: str, label: str) -> None:
    """Label names appear unquoted in queries, so they must contain no PromQL syntax."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", label):
        raise _wrong(name, label, "must be a label name: letters, digits and _, not starting with a digit")


def _check_dns_label(name: str, text: str) -> None:
    if text and not re.fullmatch(DNS_LABEL, text):
        raise _wrong(name, text, "must be at most 63 lower-case letters, digits and -, with no - at either end")


def _pairs(name: str, text: str, mark: str, *, secret: bool = False) -> dict[str, str]:
    """Names and values. A value that may be a token is not repeated in an error."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, found, value = part.partition(mark)
        if not found or not key.strip():
            shown = f"{len(part)} characters without {mark}" if secret else part
            raise _wrong(name, shown, f"must be NAME{mark}VALUE, comma-separated")
        if not part.isprintable():
            raise _wrong(name, key.strip(), "must be printable and on one line")
        pairs[key.strip()] = value.strip()
    return pairs
