"""
The third-party programs that the sandbox runs: the Kubernetes control plane, Helm, Prometheus.

Question: where is a program on this machine, and if it is missing, how to get it?
Enters:   program names, and how much effort is allowed (`Effort`).
Leaves:   a path per program and where it came from.
May import: `tidegate.errors` and the standard library. Nothing is installed on the system; everything goes to the
cache.

    KUBEBUILDER_ASSETS, PATH -> our cache -> the project's own release -> the system's package, unpacked -> a build

    catalog   programs, versions, URLs (the only file with URLs)
    cache     the folder, the lock, the note of origin next to each program
    release   download and verify
    package   unpack a Debian package
    build     build from Go modules with a committed go.sum
    provide   the order above
"""

from tidegate.sandbox.binaries.catalog import CONTROL_PLANE, OPTIONAL, PROGRAMS, Effort
from tidegate.sandbox.binaries.provide import Found, Provider, provide

__all__ = ["CONTROL_PLANE", "OPTIONAL", "PROGRAMS", "Effort", "Found", "Provider", "provide"]
