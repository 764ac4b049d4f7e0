"""
Find or fetch programs, in a fixed order, and record what was tried.

In:    names, and how much effort is allowed.
Out:   a `Found` per program, or a `SourceError` that lists everything that was tried.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import SourceError
from tidegate.sandbox.binaries.build import Builder
from tidegate.sandbox.binaries.cache import Cache, Say, cache_folder
from tidegate.sandbox.binaries.catalog import PROGRAMS, Effort, Module, Program, this_platform
from tidegate.sandbox.binaries.package import from_package
from tidegate.sandbox.binaries.release import Downloader, FetchError

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    An executable program.

    Args:
        path: Path of the file.
        origin: Where it came from, e.g. `found in PATH` or `built from source with go1.26.8`.
    """

    path: Path
    origin: str


def provide(
    names: Iterable[str], *, effort: Effort = Effort.LOOK, say: Say = lambda line: None, cache: Cache | None = None
) -> dict[str, Found]:
    """
    Finds or fetches programs.

    Args:
        names: Keys of `PROGRAMS`.
        effort: How much effort is allowed.
        say: Called with lines of progress.
        cache: Where fetched programs are stored; None: the user's cache folder.

    Raises:
        SourceError: A program cannot be provided with that effort; the text lists what was tried.
    """
    return Provider(say=say, cache=cache).provide(names, effort)


class Provider:
    """Finds or fetches programs, and remembers what failed, so that it is not tried twice."""

    def __init__(self, *, say: Say, cache: Cache | None = None) -> None:
        self._cache, self._say = cache or Cache(folder=cache_folder()), say
        self._tried: dict[str, list[str]] = {}
        self._failed_builds: dict[str, str] = {}
        self._downloader = Downloader(say)
        self._builder = Builder(self._cache.folder / "go", say)

    def provide(self, names: Iterable[str], effort: Effort) -> dict[str, Found]:
        """See `provide` above."""
        names = list(names)
        found = {name: place for name in names if (place := self._look(PROGRAMS[name]))}
        missing = [name for name in names if name not in found]
        if missing and effort > Effort.LOOK:
            with self._cache.lock(self._say):
                try:
                    found |= {name: self._fetch(PROGRAMS[name], effort) for name in missing}
                finally:
                    shutil.rmtree(self._cache.folder / "go", ignore_errors=True)
        elif missing:
            raise self._missing(missing[0])
        return {name: found[name] for name in names}

    def _look(self, program: Program) -> Found | None:
        """The program if it is on this machine and new enough."""
        tried = self._tried.setdefault(program.name, [])
        for source, path in _places(program.name):
            version = installed_version(path, program)
            if version and version >= program.oldest:
                return Found(path=path, origin=f"found in {source}")
            seen = ".".join(map(str, version)) if version else "of unknown version"
            tried.append(f"{path} is {seen}; {'.'.join(map(str, program.oldest))} or newer is needed")
        if not tried:
            tried.append(f"not in {ASSETS_VARIABLE} and not on PATH")
        if stored := self._cache.find(program.name, program.version):
            return Found(path=stored[0], origin=stored[1])
        tried.append(f"not in {self._cache.folder}")
        return None

    def _fetch(self, program: Program, effort: Effort) -> Found:
        """Fetches a missing program in the first way that works."""
        if stored := self._cache.find(program.name, program.version):  # another process, or a shared build
            return Found(path=stored[0], origin=stored[1])
        ways: list[Callable[[Program, Path], tuple[Path, str]]] = [self._download, self._unpack]
        if effort >= Effort.BUILD:
            ways.append(self._build)
        for way in ways:
            with self._cache.workspace() as workspace:
                try:
                    path, origin = way(program, workspace)
                except FetchError as error:
                    self._tried[program.name].append(str(error))
                    continue
                self._say(f"{program.name}: {origin}")
                stored_at = self._cache.store(program.name, program.version, program=path, origin=origin)
                return Found(path=stored_at, origin=origin)
        raise self._missing(program.name)

    def _download(self, program: Program, workspace: Path) -> tuple[Path, str]:
        release = program.release(*this_platform())
        if release is None:
            raise FetchError(f"no release for {'/'.join(this_platform())}")
        self._say(f"{program.name} {program.version}: trying {release.url}")
        return self._downloader.fetch(release, workspace=workspace), f"downloaded from {release.url}"

    def _unpack(self, program: Program, workspace: Path) -> tuple[Path, str]:
        if not program.package:
            raise FetchError("no system package is new enough")
        path = from_package(program.package, program=program.name, workspace=workspace)
        version = installed_version(path, program)
        if not version or version < program.oldest:
            raise FetchError(f"the system's package {program.package} is too old: {version}")
        return path, f"unpacked from the system's package {program.package} ({'.'.join(map(str, version))})"

    def _build(self, program: Program, workspace: Path) -> tuple[Path, str]:
        """Builds the program's module. Programs of the same module share the result."""
        if program.module is None:
            raise FetchError("it cannot be built from source here")
        built, origin = self._built(program.module, workspace)
        if built.name == program.name:
            return built, origin
        link = workspace / program.name
        link.symlink_to(built)
        return link, origin

    def _built(self, module: Module, workspace: Path) -> tuple[Path, str]:
        if module.output in self._failed_builds:
            raise FetchError(self._failed_builds[module.output])
        shared = module.output not in PROGRAMS
        if shared and (stored := self._cache.find(module.output, module.digest())):
            return stored
        try:
            path, toolchain = self._builder.build(module, workspace=workspace)
        except FetchError as error:
            self._failed_builds[module.output] = str(error)
            raise
        origin = f"built from source with {toolchain}"
        if shared:
            path = self._cache.store(module.output, module.digest(), program=path, origin=origin)
        return path, origin

    def _missing(self, name: str) -> SourceError:
        return SourceError(
            source=name, reason="NotFound", detail="tried: " + "; ".join(self._tried.get(name, ["nothing"]))
        )


def _places(name: str) -> list[tuple[str, Path]]:
    """Where the program is on this machine outside the cache: (source, path)."""
    places = []
    assets = os.environ.get(ASSETS_VARIABLE)
    if assets and (path := shutil.which(name, path=assets)):
        places.append((ASSETS_VARIABLE, Path(path)))
    if path := shutil.which(name):
        places.append(("PATH", Path(path)))
    return places


def installed_version(path: Path, program: Program) -> tuple[int, int] | None:
    """(major, minor) that the program reports; None if it does not run or reports none."""
    try:
        done = subprocess.run(
            [str(path), *program.version_command], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"(\d+)\.(\d+)\.\d+", done.stdout + done.stderr)
    return (int(match[1]), int(match[2])) if match else None
