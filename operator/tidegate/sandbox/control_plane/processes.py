"""
Child processes that do not outlive this process, and their working folder.

In:    commands.
Out:   running processes, each with its own log file.
Rules: children get their own session, so that Ctrl-C reaches only this process, which stops them in order. On Linux the
       kernel kills them when the thread that started them ends, so even `kill -9` leaves none. Start them from the main
       thread.
"""

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_S = 5.0
LOG_TAIL_LINES = 5
FOLDER_PREFIX = "tidegate-sandbox-"

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Runs in the child between fork and exec."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def working_folder(parent: Path | None = None) -> Path:
    """
    Creates a folder named after this process, and removes the folders of processes that no longer exist.

    Args:
        parent: Where to create it; None: the system's temporary folder.
    """
    parent = parent or Path(tempfile.gettempdir())
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        owner = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=parent))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Processes:
    """
    A set of child processes that is stopped as a whole.

    Args:
        logs: Folder for one log file per process.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)
        atexit.register(self.stop)

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Starts a program; its output goes to `LOGS/NAME.log`."""
        assert name not in self._running, f"{name} runs already"
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # one system call, no lock is taken
            )

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.logs / f"{name}.log"

    def dead(self) -> dict[str, str]:
        """Processes that ended on their own, each with its exit code and the last lines of its log."""
        return {
            name: f"exit code {process.returncode}; {self.tail(name)}"
            for name, process in self._running.items()
            if process.poll() is not None
        }

    def tail(self, name: str) -> str:
        """The last lines of a process's log, on one line."""
        lines = self.log(name).read_text(errors="replace").splitlines()
        return " | ".join(lines[-LOG_TAIL_LINES:])

    def kill(self, name: str, *, how: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to one process and waits until it ends; it can then be started again."""
        process = self._running.pop(name)
        process.send_signal(how)
        process.wait()

    def pid(self, name: str) -> int:
        """Process id of a running process."""
        return self._running[name].pid

    def stop(self, grace_s: float = STOP_S) -> None:
        """Stops all in reverse order of their start: SIGTERM, and SIGKILL after `grace_s`. May be called twice."""
        atexit.unregister(self.stop)
        for process in reversed(self._running.values()):
            process.terminate()
        deadline = time.monotonic() + grace_s
        for process in self._running.values():
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
