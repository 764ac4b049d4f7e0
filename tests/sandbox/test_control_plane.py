"""The real control plane starts, enforces RBAC, and leaves nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tidegate.errors import SourceError
from tidegate.sandbox.binaries import CONTROL_PLANE, provide
from tidegate.sandbox.control_plane import Account, RealControlPlane
from tidegate.sandbox.control_plane.processes import FOLDER_PREFIX, Processes, working_folder

HOLDER = """
import sys, time
from pathlib import Path
from tidegate.sandbox.control_plane.processes import Processes
processes = Processes(Path(sys.argv[1]))
processes.start("sleeper", ["sleep", "60"])
print(processes.pid("sleeper"), flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_gone(pid: int) -> bool:
    """Waits some seconds for a process to go."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise holds on Linux only")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed by force", "asked to end"])
def test_children_do_not_outlive_a_parent_that_was(how: signal.Signals, tmp_path: Path) -> None:
    """Whatever ends the parent, its children end too."""
    environment = {**os.environ, "PYTHONPATH": "operator"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(how)
        parent.wait(timeout=10)
        assert until_gone(child)


def test_a_process_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("bad", ["sh", "-c", "echo cannot go on; exit 3"])
    for _ in range(100):
        if processes.dead():
            break
        time.sleep(0.05)
    assert processes.dead() == {"bad": "exit code 3; cannot go on"}
    processes.stop()


def test_a_process_that_ignores_the_request_to_end_is_ended_by_force(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("deaf", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"])
    while not processes.log("deaf").read_text():
        time.sleep(0.02)
    pid = processes.pid("deaf")
    processes.stop(grace_s=0.2)
    assert not alive(pid)


def test_a_killed_process_can_be_started_again(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("sleeper", ["sleep", "60"])
    first = processes.pid("sleeper")
    processes.kill("sleeper")
    processes.start("sleeper", ["sleep", "60"])
    assert processes.pid("sleeper") != first
    assert not alive(first)
    processes.stop()


def test_folders_of_ended_processes_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left_over = tmp_path / f"{FOLDER_PREFIX}{gone.pid}-abc"
    ours = tmp_path / f"{FOLDER_PREFIX}{os.getpid()}-abc"
    left_over.mkdir()
    ours.mkdir()
    made = working_folder(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([ours, made])


def test_a_kubeconfig_is_for_its_owner_only_and_says_who_it_is(tmp_path: Path) -> None:
    account = Account(url="https://127.0.0.1:1", ca_file=tmp_path / "ca", token="secret", namespace="prod")
    path = account.write_kubeconfig(tmp_path / "deep" / "kubeconfig")
    document = yaml.safe_load(path.read_text())
    assert path.stat().st_mode & 0o077 == 0
    assert document["users"][0]["user"] == {"token": "secret"}
    assert document["contexts"][0]["context"]["namespace"] == "prod"


@pytest.mark.parametrize("ca_file", [Path("/ca"), None], ids=["over TLS", "over plain HTTP"])
def test_an_account_reaches_another_process_as_it_is(ca_file: Path | None) -> None:
    account = Account(url="https://127.0.0.1:1", ca_file=ca_file, token="secret")
    assert Account.from_json(json.loads(json.dumps({**account.to_json(), "more": 1}))) == account


@pytest.mark.cluster
async def test_a_service_account_may_only_what_rbac_gives_it(real_control_plane: RealControlPlane) -> None:
    """The token is real and RBAC is enabled: only what a role grants is allowed."""
    account = await real_control_plane.service_account("default", "default")
    async with account.session() as session, session.get("/api/v1/nodes") as answer:
        body = await answer.json()
    assert answer.status == 403
    assert 'User "system:serviceaccount:default:default" cannot list resource "nodes"' in body["message"]


@pytest.mark.cluster
async def test_a_token_is_refused_for_an_account_that_is_not_there(real_control_plane: RealControlPlane) -> None:
    with pytest.raises(SourceError, match='serviceaccounts "ghost" not found'):
        await real_control_plane.service_account("default", "ghost")


@pytest.mark.cluster
async def test_requests_without_a_token_are_rejected(real_control_plane: RealControlPlane) -> None:
    admin = real_control_plane.admin
    stranger = Account(url=admin.url, ca_file=admin.ca_file, token="wrong")
    async with stranger.session() as session, session.get("/api/v1/nodes") as answer:
        assert answer.status == 401


@pytest.mark.cluster
async def test_stopping_leaves_neither_process_nor_file(tmp_path: Path, real_control_plane: RealControlPlane) -> None:
    """A second control plane beside the first, stopped in the middle of its start and after it."""
    programs = provide(CONTROL_PLANE)
    async with RealControlPlane(programs, parent=tmp_path) as second:
        assert second.url != real_control_plane.url
        pids = [second.processes.pid(name) for name in CONTROL_PLANE]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []

    interrupted = asyncio.create_task(RealControlPlane(programs, parent=tmp_path).__aenter__())
    await asyncio.sleep(0.5)
    interrupted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await interrupted
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cluster
async def test_a_program_that_cannot_start_is_named(tmp_path: Path, real_control_plane: RealControlPlane) -> None:
    """The error carries the program's name and its last words, not a timeout after a minute."""
    broken = RealControlPlane(provide(CONTROL_PLANE), parent=tmp_path)
    broken._ports["api"] = int(real_control_plane.url.rsplit(":", 1)[1])
    with pytest.raises(SourceError, match=r"kube-apiserver: Died: exit code 1.*address already in use"):
        async with broken:
            pass
    assert list(tmp_path.iterdir()) == []
