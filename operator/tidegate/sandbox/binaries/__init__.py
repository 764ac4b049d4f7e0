"""
The programs the sandbox runs that are not ours: the Kubernetes control plane, Helm, Prometheus.

Question: where on this machine is that program, and if nowhere, how does it get here?
Enters: program names and how much trouble is allowed (`Effort`). Leaves: a path per program and where it came from.
May import: `tidegate.errors` and the standard library. Nothing is installed into the system: all goes to the cache.

    KUBEBUILDER_ASSETS, PATH -> our cache -> the project's own release -> the system's package, unpacked -> a build

    catalog   which programs, which versions, which URLs (the only file with any)
    cache     the folder, the lock, the note of origin beside each program
    release   download and check
    package   a Debian package, unpacked into the cache
    build     from Go modules with a committed go.sum
    provide   the order above
"""

from tidegate.sandbox.binaries.catalog import CONTROL_PLANE, OPTIONAL, PROGRAMS, Effort
from tidegate.sandbox.binaries.provide import Found, Provider, provide

__all__ = ["CONTROL_PLANE", "OPTIONAL", "PROGRAMS", "Effort", "Found", "Provider", "provide"]
