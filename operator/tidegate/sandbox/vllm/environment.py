"""
The virtual environment for vLLM: in the user's cache, created once, separate from the project's own.

    ~/.cache/tidegate/vllm/DIGEST-PYTHON/      the digest is that of the lock file

In:    the lock file next to this module, the running Python.
Out:   an `Environment`, or a `SourceError` that says what failed.
Rules: every file is checked against its SHA-256. The marker file is created last, after vLLM was imported successfully.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import SourceError
from tidegate.sandbox.binaries.cache import Cache, Say, cache_folder

LOCK = Path(__file__).with_name("requirements.txt")
MARK = "whole"
# The folder that contains the package `tidegate`, which is not installed in the environment.
SOURCES = Path(__file__).parents[3]
INSTALL_TIMEOUT_S = 3600.0
CHECK_TIMEOUT_S = 600.0

# vLLM looks up its version under the package name `vllm`, but the CPU build has another name.
ALIAS = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n"
ALIAS_FOLDER = "vllm-0.32.0+cpu.dist-info"

# Settings for a small machine without network access. One thread per server: on busy cores OpenMP's spinning threads
# make a token 25 times slower. `nobind`: the cores are shared with other processes.
VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """
    An environment in which vLLM can be imported.

    Args:
        folder: The virtual environment.
    """

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def variables(self) -> dict[str, str]:
        """Environment variables of its processes: this process's, `VARIABLES`, and the path of Tidegate's sources."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VLLM_"))}
        return kept | VARIABLES | {"PYTHONPATH": str(SOURCES)}

    def module(self, name: str, *arguments: str) -> list[str]:
        """Command line that runs a module of this package in the environment."""
        return [str(self.python), "-m", f"tidegate.sandbox.vllm.{name}", *arguments]


def find_environment() -> Environment | None:
    """The environment if it exists."""
    folder = _folder()
    return Environment(folder=folder) if (folder / MARK).exists() else None


def make_environment(say: Say) -> Environment:
    """
    The environment; creates it if it is missing: about 3 GB of downloads and 5 GB of disk, mostly torch's CUDA
    libraries.

    Args:
        say: Called with a line per step.

    Raises:
        SourceError: A step failed; the detail has the last line of its output.
    """
    found = find_environment()
    if found is not None:
        return found
    environment = Environment(folder=_folder())
    with Cache(folder=environment.folder.parent).lock(say):
        if (environment.folder / MARK).exists():
            return environment
        shutil.rmtree(environment.folder, ignore_errors=True)
        say(f"creating {environment.folder}")
        _call([sys.executable, "-m", "venv", str(environment.folder)], step="venv")
        say("installing vLLM for the CPU (about 3 GB, takes some minutes)")
        _call([str(environment.python), *_install()], step="install")
        _alias(environment)
        say("importing vLLM once")
        _call([str(environment.python), "-c", "import vllm._C"], step="import", variables=environment.variables())
        (environment.folder / MARK).touch()
    return environment


def _folder() -> Path:
    python = sys.implementation.cache_tag
    digest = hashlib.sha256(LOCK.read_bytes() + ALIAS.encode()).hexdigest()[:12]
    return cache_folder() / "vllm" / f"{digest}-{python}"


def _install() -> list[str]:
    # No dependencies: the lock file lists everything that is needed, which is less than the build's metadata requires.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-cache-dir", "--require-hashes"]
    return ["-m", "pip", "install", *options, "-r", str(LOCK)]


def _alias(environment: Environment) -> None:
    packages = next(environment.folder.glob("lib/python*/site-packages"))
    folder = packages / ALIAS_FOLDER
    folder.mkdir()
    (folder / "METADATA").write_text(ALIAS)


def _call(command: list[str], *, step: str, variables: dict[str, str] | None = None) -> None:
    timeout_s = INSTALL_TIMEOUT_S if step == "install" else CHECK_TIMEOUT_S
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=timeout_s, check=False, cwd="/"
        )
    except subprocess.TimeoutExpired as late:
        raise SourceError(
            source="vllm", reason="Timeout", detail=f"{step}: not done within {timeout_s:.0f} s"
        ) from late
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise SourceError(source="vllm", reason="NotInstalled", detail=f"{step}: {words[-1]}")
