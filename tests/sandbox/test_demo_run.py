"""`tidegate sandbox` as a user runs it: it shows output, and leaves nothing behind in whatever way it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interrupts import hears_ctrl_c
from tidegate.errors import SourceError
from tidegate.sandbox.binaries import Effort, provide

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

REPLAYED = "req/s"


@pytest.fixture(autouse=True)
def _programs() -> None:
    try:
        provide(["prometheus"], effort=Effort.LOOK)
    except SourceError as missing:
        pytest.skip(f"needs Prometheus: {missing}")


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command with its output in a pipe; whatever it makes lies below `folder`."""
    command = [sys.executable, "-m", "tidegate", "sandbox", *options]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,  # noqa: PLW1509 (no threads here)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], word: str, *, timeout_s: float = 120.0) -> str:
    assert process.stdout is not None
    seen, deadline = "", time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        seen += line
        if word in line:
            return seen
        assert line, f"it ended before it said {word!r}:\n{seen}"
    raise AssertionError(f"it does not say {word!r}:\n{seen}")


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that still know the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found


def gone(folder: Path, *, timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while left_behind(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not left_behind(folder)


@pytest.mark.parametrize("plane", ["embedded", "kubernetes"])
def test_a_short_day_ends_with_a_table_and_leaves_nothing(tmp_path: Path, plane: str) -> None:
    with demo(tmp_path, "--duration", "30", "--control-plane", plane) as process:
        output = until(process, "by the clients", timeout_s=240)
        assert process.wait(timeout=30) == 0
    assert f"control plane: {plane}" in output
    assert "Tidegate" in output
    assert "its peak fleet, fixed" in output
    assert gone(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", [REPLAYED, "manifests"], ids=["during the replay", "while it starts"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, word: str) -> None:
    with demo(tmp_path, "--duration", "60", "--control-plane", "embedded") as process:
        until(process, word)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert gone(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_leaves_nothing_and_shows_no_traceback(tmp_path: Path) -> None:
    with demo(tmp_path, "--duration", "60", "--control-plane", "embedded") as process:
        until(process, "manifests")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "Traceback" not in output
    assert gone(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_no_process(tmp_path: Path) -> None:
    with demo(tmp_path, "--duration", "60", "--control-plane", "embedded") as process:
        until(process, REPLAYED)
        assert left_behind(tmp_path)
        process.kill()
    assert gone(tmp_path)


def test_keep_says_how_to_reach_it_and_stays_until_ctrl_c(tmp_path: Path) -> None:
    with demo(tmp_path, "--duration", "10", "--control-plane", "embedded", "--keep") as process:
        output = until(process, "until Ctrl-C", timeout_s=200)
        kubeconfig = next(line for line in output.splitlines() if line.startswith("export KUBECONFIG="))
        assert Path(kubeconfig.partition("=")[2]).exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert gone(tmp_path)
