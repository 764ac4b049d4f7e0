"""
`python -m tidegate.sandbox.vllm.parent`: imports vLLM once, then forks a server for every line that it reads.

Most of vLLM's start-up (25 s and more on two cores) is three interpreters that import it. A fork avoids that and is
ready in a few seconds.

In:    a JSON line per server: `arguments` (vLLM's), `env` (additional variables), `log` (a file), `law` (the fields of
a
       `PerformanceLaw`), `lag` (the file to which the server writes how late its steps end).
Out:   JSON lines: `{"ready": true}` once, `{"started": PID}` per server in the order of the input, and
       `{"exited": PID, "code": N}` when one ends.
Rules: each server leads a process group; all end with this process, and this process ends with its input.

Runs in vLLM's environment.
"""

import ctypes
import json
import multiprocessing
import os
import select
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from tidegate.domain.law import PerformanceLaw
from tidegate.sandbox.vllm import pacer

POLL_S = 0.1
PR_SET_PDEATHSIG = 1

# Modules that are imported before the fork.
WARM = (
    "vllm.model_executor.models.llama",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.v1.engine.async_llm",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.worker.cpu_worker",
)
# Modules that import vLLM's choice of the multiprocessing start method, which on CPUs is to spawn.
SPAWNING = (
    "vllm.utils.system_utils",
    "vllm.v1.engine.coordinator",
    "vllm.v1.engine.utils",
    "vllm.v1.executor.multiproc_executor",
)


def main() -> None:
    """Fork servers until the input ends."""
    _warm()
    os.register_at_fork(after_in_child=_die_with_parent)
    servers: set[int] = set()
    _say(ready=True)
    pending = b""
    while True:
        if select.select([0], [], [], POLL_S)[0]:
            part = os.read(0, 65536)
            if not part:
                break
            *lines, pending = (pending + part).split(b"\n")
            for line in lines:
                servers.add(pid := _fork(json.loads(line)))
                _say(started=pid)
        _reap(servers)
    for pid in servers:
        os.killpg(pid, signal.SIGKILL)


def _warm() -> None:
    for name in WARM:
        import_module(name)
    for name in SPAWNING:
        # Replaced in each module, because each has its own reference to the function.
        import_module(name).get_mp_context = lambda: multiprocessing.get_context("fork")  # type: ignore[attr-defined]
    cpu = import_module("torch").cpu
    if cpu._is_amx_tile_supported():
        # Without this the first short prompt dies of SIGILL, because AMX tiles must be requested from the kernel.
        cpu._init_amx()


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        os.environ.update(order["env"])
        pacer.install(pacer.Pace(PerformanceLaw(**order["law"]), told=Path(order["lag"])))
        code = _serve(order["arguments"])
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        os._exit(code)


def _serve(arguments: list[str]) -> int:
    entry = import_module("vllm.entrypoints.launchers.api_server.entry")
    cli = import_module("vllm.entrypoints.launchers.cli_args")
    parser = cli.make_arg_parser(import_module("vllm.utils.argparse_utils").FlexibleArgumentParser())
    options = parser.parse_args(arguments)
    cli.validate_parsed_serve_args(options)
    import_module("uvloop").run(entry.run_server(options))
    return 0


def _reap(servers: set[int]) -> None:
    for pid in list(servers):
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            servers.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            _say(exited=pid, code=128 - code if code < 0 else code)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
