"""
Which programs the sandbox needs, in which versions, and where their projects publish them.

In:    the current platform.
Out:   `PROGRAMS`, one entry per program.
Rules: the only file with URLs. Checksums are those that each project publishes with its release.
"""

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

KUBERNETES_VERSION = "1.36.3"
ETCD_VERSION = "3.6.8"
HELM_VERSION = "3.22.0"
# The Go module of Prometheus 3.15.0 is numbered v0.315.0.
PROMETHEUS_VERSION = "3.15.0"

MODULES = Path(__file__).parent


class Effort(IntEnum):
    """How much effort is allowed to get a program; each level includes the previous ones."""

    LOOK = 0  # milliseconds: PATH and the cache
    DOWNLOAD = 1  # seconds: a release, or the system's package
    BUILD = 2  # minutes: from source


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """
    One published file.

    Args:
        url: Its URL.
        sums_url: Where the project publishes its SHA-256, alone or in a list that names the file.
        member: Path of the program inside the archive; empty: the file is the program itself.
    """

    url: str
    sums_url: str
    member: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """
    A Go module in this folder from which the program is built.

    Args:
        folder: The folder with go.mod and go.sum.
        target: Argument of `go build`: `.` or an import path.
        output: File name of the result; several programs may share one.
        stamps: Variables set at link time, so that the program reports its version.
    """

    folder: Path
    target: str
    output: str
    stamps: tuple[tuple[str, str], ...] = ()

    def digest(self) -> str:
        """Hash of the sources, twelve hex digits: the version of a shared result in the cache."""
        sources = b"".join(path.read_bytes() for path in sorted(self.folder.iterdir()))
        return hashlib.sha256(sources).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """
    A program that the sandbox runs.

    Args:
        name: File name, as on PATH.
        version: The version that is fetched or built.
        oldest: The oldest version that is accepted if it is found on the machine.
        version_command: Arguments that make it print its version.
        release: Returns its release for (os, architecture); None if the project publishes none.
        package: Debian package that contains it; empty: none is new enough.
        module: The module to build it from; None: it is not built.
    """

    name: str
    version: str
    oldest: tuple[int, int]
    version_command: tuple[str, ...]
    release: Callable[[str, str], Release | None]
    package: str = ""
    module: Module | None = None


def this_platform() -> tuple[str, str]:
    """(os, architecture) of this machine in Go's terms, e.g. `("linux", "amd64")`."""
    architecture = platform.machine().lower()
    return platform.system().lower(), {"x86_64": "amd64", "aarch64": "arm64"}.get(architecture, architecture)


def _kubernetes_release(name: str) -> Callable[[str, str], Release | None]:
    """Single files, one per program; servers are published for Linux only, kubectl for all."""

    def release(system: str, architecture: str) -> Release | None:
        if system != "linux" and name != "kubectl":
            return None
        url = f"https://dl.k8s.io/release/v{KUBERNETES_VERSION}/bin/{system}/{architecture}/{name}"
        return Release(url=url, sums_url=f"{url}.sha256")

    return release


def _etcd_release(system: str, architecture: str) -> Release | None:
    if system != "linux":  # other platforms have zip files only, so it is built there
        return None
    folder = f"https://github.com/etcd-io/etcd/releases/download/v{ETCD_VERSION}"
    stem = f"etcd-v{ETCD_VERSION}-{system}-{architecture}"
    return Release(url=f"{folder}/{stem}.tar.gz", sums_url=f"{folder}/SHA256SUMS", member=f"{stem}/etcd")


def _helm_release(system: str, architecture: str) -> Release | None:
    url = f"https://get.helm.sh/helm-v{HELM_VERSION}-{system}-{architecture}.tar.gz"
    return Release(url=url, sums_url=f"{url}.sha256sum", member=f"{system}-{architecture}/helm")


def _prometheus_release(system: str, architecture: str) -> Release | None:
    folder = f"https://github.com/prometheus/prometheus/releases/download/v{PROMETHEUS_VERSION}"
    stem = f"prometheus-{PROMETHEUS_VERSION}.{system}-{architecture}"
    return Release(url=f"{folder}/{stem}.tar.gz", sums_url=f"{folder}/sha256sums.txt", member=f"{stem}/prometheus")


_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_VERSION_PACKAGE = "k8s.io/component-base/version"
_KUBERNETES_MODULE = Module(
    folder=MODULES / "kubernetes",
    target=".",
    output="tidegate-kubernetes",
    # Without these the server reports v0.0.0-master+$Format:%H$, which neither kubectl nor Helm can parse.
    stamps=(
        (f"{_VERSION_PACKAGE}.gitVersion", f"v{KUBERNETES_VERSION}"),
        (f"{_VERSION_PACKAGE}.gitMajor", _MAJOR),
        (f"{_VERSION_PACKAGE}.gitMinor", _MINOR),
    ),
)
_HELM_MODULE = Module(
    folder=MODULES / "helm",
    target="helm.sh/helm/v3/cmd/helm",
    output="helm",
    stamps=(
        ("helm.sh/helm/v3/internal/version.version", f"v{HELM_VERSION}"),
        # As in Helm's own releases: the Kubernetes version that `helm template` assumes without a cluster.
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor", _MAJOR),
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor", _MINOR),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor", _MAJOR),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor", _MINOR),
    ),
)
_PROMETHEUS_MODULE = Module(
    folder=MODULES / "prometheus",
    target="github.com/prometheus/prometheus/cmd/prometheus",
    output="prometheus",
    stamps=(("github.com/prometheus/common/version.Version", PROMETHEUS_VERSION),),
)


def _kubernetes(name: str) -> Program:
    return Program(
        name=name,
        version=KUBERNETES_VERSION,
        oldest=(1, 32),
        version_command=("--version",),
        release=_kubernetes_release(name),
        module=_KUBERNETES_MODULE,
    )


# What `RealControlPlane` starts.
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

PROGRAMS = {
    program.name: program
    for program in (
        Program(
            name="etcd",
            version=ETCD_VERSION,
            oldest=(3, 5),
            version_command=("--version",),
            release=_etcd_release,
            module=_KUBERNETES_MODULE,
        ),
        *(_kubernetes(name) for name in CONTROL_PLANE if name != "etcd"),
        Program(
            name="helm",
            version=HELM_VERSION,
            oldest=(3, 14),
            version_command=("version", "--short"),
            release=_helm_release,
            module=_HELM_MODULE,
        ),
        Program(
            name="prometheus",
            version=PROMETHEUS_VERSION,
            oldest=(2, 40),
            version_command=("--version",),
            release=_prometheus_release,
            package="prometheus",
            module=_PROMETHEUS_MODULE,
        ),
        Program(
            name="kubectl",
            version=KUBERNETES_VERSION,
            oldest=(1, 20),
            version_command=("version", "--client"),
            release=_kubernetes_release("kubectl"),
        ),
    )
}

# Not needed by the sandbox itself, but useful to inspect it.
OPTIONAL = frozenset({"kubectl"})
