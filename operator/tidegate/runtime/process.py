"""
The process: every part as a task of one group; the first that dies ends it, with a log line.

In:    settings, SIGTERM.
Out:   an exit code: 0 stopped as asked, 1 something died, 2 it cannot run with these settings.
Rules: nothing is planned before the caches are filled. On SIGTERM: stop writing, save memory, release the Lease, in
       this order, in less than three seconds.
"""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from kubernetes.aio.client import Configuration

from tidegate import __version__
from tidegate.errors import SourceError, SpecError, TidegateError
from tidegate.ports import ApiError
from tidegate.report.metrics import Metrics
from tidegate.runtime import logs
from tidegate.runtime.kube import HttpKubeApi, load_configuration
from tidegate.runtime.parts import Assembly, assemble
from tidegate.runtime.resources import ResourceWatcher
from tidegate.runtime.server import Probes, Server
from tidegate.settings import SHARD_LABEL, Settings

log = logging.getLogger(__name__)

# At start, wait this long for an API server that is not up yet.
API_WAIT_S = 30.0
# A cache that was not confirmed for this long, while the API server answers other calls, has a dead watch: bookmarks
# come every minute.
CACHE_AGE_MAX_S = 180.0
# Missed ticks after which the loop counts as stuck.
TICKS_MISSED_MAX = 10
SAVE_S = 1.2


def main(settings: Settings) -> int:
    """Run until stopped; returns the exit code."""
    logs.set_up(style=settings.log_format, level=settings.log_level)
    # Each tick creates and drops a hundred thousand small objects. Garbage collection among them doubles its time.
    gc.set_threshold(100_000, 20, 20)
    try:
        asyncio.run(run(settings))
    except Exception as error:
        return _log_end(error)
    return 0


def _log_end(error: Exception) -> int:
    """Log what ended the process, with a traceback only for a bug; returns the exit code."""
    faults = list(_leaves(error))
    for fault in faults:
        if isinstance(fault, TidegateError):
            log.critical("cannot run: %s", fault)
        else:
            log.critical("stopped by an unexpected error: %r", fault, exc_info=fault)
    return 2 if all(isinstance(fault, SpecError) for fault in faults) else 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for fault in error.exceptions:
            yield from _leaves(fault)
    else:
        yield error


async def run(settings: Settings, stop: asyncio.Event | None = None) -> None:
    """
    Run until `stop` is set; if it is not given, until SIGTERM or SIGINT.

    Raises:
        SpecError: the installation is wrong.
        ExceptionGroup: a part died.
    """
    stop = stop or _stop_on_signals()
    configuration = await load_configuration(settings.kubeconfig or None, settings.context or None)
    metrics = Metrics(__version__)
    async with HttpKubeApi(configuration, counted=metrics.called) as api:
        assembly = assemble(settings, api, metrics)
        if await _unless(stop, _initialize(assembly)):
            await _run_parts(assembly, configuration, stop)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work; False if `stop` was set first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done() and not stop.is_set()
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})


def _stop_on_signals() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _initialize(assembly: Assembly) -> None:
    """Load the saved memory and the list of what exists; wait for an API server that is still starting."""
    until_s = time.monotonic() + API_WAIT_S
    while True:
        try:
            await assembly.sweeper.sweep()
            await assembly.recovery.load()
        except ApiError as error:
            if time.monotonic() > until_s or error.status in {401, 403}:
                raise
            await asyncio.sleep(1.0)
        else:
            return


async def _run_parts(assembly: Assembly, configuration: Configuration, stop: asyncio.Event) -> None:
    """Run every part as a task, until `stop` is set or one of them ends."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_endless(name, work), name=name) for name, work in _work(assembly, configuration).items()
        ]
        await stop.wait()
        await _shut_down(assembly, {task.get_name(): task for task in tasks})
    for client in assembly.clients:
        client.close()


Part = Callable[[], Coroutine[Any, Any, None]]


def _work(assembly: Assembly, configuration: Configuration) -> Mapping[str, Part]:
    """Everything that runs, by name."""
    work: dict[str, Part] = {
        "server": Server(assembly.settings.address, assembly.metrics, _probes(assembly)).run,
        "cluster": assembly.cluster.run,
        "sweeper": assembly.sweeper.run,
        "pulse": partial(_pulse, assembly),
        "resources": _watcher(assembly, configuration).run,
        "planner": partial(_run_planner, assembly),
        "hands": assembly.hands.run,
        "recovery": partial(_run_recovery, assembly),
        "saver": assembly.saver.run,
    }
    if assembly.elector is not None:
        work["elector"] = assembly.elector.run
    return work


def _watcher(assembly: Assembly, configuration: Configuration) -> ResourceWatcher:
    settings = assembly.settings

    def wants(labels: Mapping[str, str]) -> bool:
        return labels.get(SHARD_LABEL, "") == settings.shard

    return ResourceWatcher(
        inventory=assembly.inventory,
        configuration=configuration,
        namespace=settings.namespace or None,
        wants=wants,
        resumed=assembly.sweeper.soon,
    )


async def _endless(name: str, work: Part) -> None:
    """A part that ends is as bad as one that fails."""
    await work()
    raise SourceError(source=name, reason="Ended", detail="this part of the operator ended unexpectedly")


async def _shut_down(assembly: Assembly, tasks: Mapping[str, asyncio.Task[None]]) -> None:
    """Stop writing, save while still leading, release the Lease, then stop the rest."""
    for name in ("planner", "hands", "recovery", "saver"):
        tasks[name].cancel()
    with suppress(TimeoutError):
        async with asyncio.timeout(SAVE_S):
            await assembly.saver.save()
    if elector := tasks.get("elector"):
        elector.cancel()
        await asyncio.wait({elector})
    for task in tasks.values():
        task.cancel()


async def _run_planner(assembly: Assembly) -> None:
    await _synced(assembly)
    await assembly.planner.run()


async def _run_recovery(assembly: Assembly) -> None:
    await _synced(assembly)
    # The first tick maps workloads to deployments.
    await assembly.planner.ticked.wait()
    await assembly.recovery.run()
    await asyncio.Event().wait()


async def _synced(assembly: Assembly) -> None:
    """Wait until every cache is complete."""
    while _not_ready(assembly):  # noqa: ASYNC110 -- a dozen caches share no event
        await asyncio.sleep(0.05)


def _not_ready(assembly: Assembly) -> str:
    behind = assembly.inventory.behind()
    if behind:
        return f"{behind} resources have not arrived yet"
    unsynced = [i.path for i in assembly.cluster.informers if not i.synced]
    return f"not listed yet: {', '.join(unsynced)}" if unsynced or not assembly.cluster.synced else ""


def _probes(assembly: Assembly) -> Probes:
    """Readiness latches: a cache that was complete once stays usable while its watch is reopened."""
    was_ready = False

    def ready() -> str:
        nonlocal was_ready
        wrong = "" if was_ready else _not_ready(assembly)
        was_ready = was_ready or not wrong
        return wrong

    return Probes(alive=lambda: _not_alive(assembly), ready=ready)


def _not_alive(assembly: Assembly) -> str:
    """A problem that a restart would solve: a stuck loop, or a dead watch while the API server answers."""
    planner, now_s = assembly.planner, time.monotonic()
    if planner.ticks and now_s - planner.last_tick_s > TICKS_MISSED_MAX * planner.period_s:
        return f"no plan for {now_s - planner.last_tick_s:.0f} s"
    if not assembly.api.answered_within(CACHE_AGE_MAX_S / 3):
        return ""
    age_s, behind_s = assembly.cluster.age_s(), assembly.sweeper.behind_s
    if age_s > CACHE_AGE_MAX_S:
        return f"a cache has not been confirmed for {age_s:.0f} s"
    if behind_s is not None and now_s - behind_s > CACHE_AGE_MAX_S:
        return "existing custom resources have not arrived"
    return ""


async def _pulse(assembly: Assembly) -> None:
    """Measure the event loop and the caches, for /metrics."""
    metrics, pause_s = assembly.metrics, 0.5
    while True:
        began_s = time.monotonic()
        await asyncio.sleep(pause_s)
        metrics.loop_lag_s.set(max(0.0, time.monotonic() - began_s - pause_s))
        metrics.cache_age_s.set(assembly.cluster.age_s())
        metrics.leader.set(float(assembly.fence.holds()))
