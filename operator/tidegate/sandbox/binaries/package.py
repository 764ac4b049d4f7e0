"""
Get a program from a Debian package: download it with apt and unpack it, without installing it.

In:    a package name and the name of the program in it.
Out:   the program as a file, or a `FetchError`.
Rules: needs no root and does not change the system, but needs existing package lists.
"""

import shutil
import subprocess
from pathlib import Path

from tidegate.sandbox.binaries.release import FetchError

APT_TIMEOUT_S = 120.0


def from_package(package: str, *, program: str, workspace: Path) -> Path:
    """
    Path of the unpacked program, in `workspace`.

    Raises:
        FetchError: There is no apt, no such package, or no such program in it.
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
