"""
A program out of a Debian package: downloaded by the system's own apt, unpacked into the cache, installed nowhere.

In:    a package name and the program inside it.
Out:   the program as a file, or a `FetchError`.
Rules: needs neither root nor a change to the system, only package lists that are there.
"""

import shutil
import subprocess
from pathlib import Path

from tidegate.sandbox.binaries.release import FetchError

APT_TIMEOUT_S = 120.0


def from_package(package: str, *, program: str, workspace: Path) -> Path:
    """
    The program of that name in `workspace`.

    Raises:
        FetchError: No apt here, no such package, or no such program in it.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FetchError("this system does not have apt-get and dpkg")
    _call(["apt-get", "download", package], folder=workspace)
    archives = list(workspace.glob("*.deb"))
    if not archives:
        raise FetchError(f"apt-get download {package}: no file was downloaded")
    root = workspace / "root"
    _call(["dpkg", "-x", str(archives[0]), str(root)], folder=workspace)
    programs = [path for path in root.glob(f"usr/*bin/{program}") if path.is_file()]
    if not programs:
        raise FetchError(f"package {package} does not contain {program}")
    return programs[0]


def _call(command: list[str], *, folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{' '.join(command[:2])}: no answer in {APT_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise FetchError(f"{' '.join(command[:3])}: {last}")
