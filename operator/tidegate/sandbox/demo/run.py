"""
Run the demo from beginning to end.

In:    a scenario.
Out:   output on the console.
"""

import asyncio
import signal
from contextlib import suppress

from rich.console import Console
from rich.live import Live

from tidegate.errors import SourceError
from tidegate.sandbox.binaries import CONTROL_PLANE, Effort, Found, provide
from tidegate.sandbox.control_plane import RealControlPlane
from tidegate.sandbox.demo.ledger import Ledger
from tidegate.sandbox.demo.scenario import Scenario
from tidegate.sandbox.demo.scene import Observer, Scene
from tidegate.sandbox.demo.stage import ControlPlane, Say, Stage
from tidegate.sandbox.demo.verdict import remarks, table
from tidegate.sandbox.demo.view import line, picture
from tidegate.sandbox.embedded import EmbeddedControlPlane

FRAME_S = 0.5
LINE_S = 5.0
# Traffic starts when a replica is ready, but at the latest after a start-up of three minutes, shortened by the demo's
# pace, plus a margin for the operator and a busy machine.
FIRST_REPLICA_S, MARGIN_S = 180.0, 60.0
# How long to wait for the last answers after the replay.
TAIL_S = 60.0


def run(scenario: Scenario, *, console: Console) -> None:
    """
    Run the demo.

    Raises:
        SourceError: A program is not available, or a part died; the text says which and why.
        KeyboardInterrupt: The user pressed Ctrl-C; everything was stopped.
        CancelledError: The same after SIGTERM.
    """
    asyncio.run(_show(scenario, console))


async def _show(scenario: Scenario, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)

    stage = Stage(scenario, plane=_plane(scenario, say), prometheus_program=_prometheus(say), say=say)
    task = asyncio.current_task()
    assert task is not None, "asyncio.run made one"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with stage:
        scene = Scene(scenario, Ledger(scenario.price_usd_per_hour, scenario.gpus))
        observer = Observer(stage, scene)
        watching = asyncio.create_task(observer.run())
        try:
            await _play(stage, scene, observer, console)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError, ExceptionGroup):
                await watching
        console.print(table(scene))
        for remark in remarks(scene):
            console.print(remark, highlight=False, markup=False, soft_wrap=True)
        if scenario.options.keep:
            await _keep(stage, console)


async def _play(stage: Stage, scene: Scene, observer: Observer, console: Console) -> None:
    """Wait for a first replica, then run the replay with its live view."""
    clock = asyncio.get_running_loop().time
    await _first_replica(stage, scene, console)
    outcomes = stage.start_traffic()
    scene.started_s = clock()
    total, end_s = len(scene.scenario.arrivals), scene.started_s + scene.scenario.duration_s
    scene.ledger.open(scene.started_s, until_s=end_s)
    with _Screen(console, scene) as screen:
        while clock() < end_s or (len(scene.outcomes) < total and clock() < end_s + TAIL_S):
            await asyncio.sleep(FRAME_S)
            stage.check()
            observer.read_outcomes(outcomes)
            scene.ledger.pass_time(clock())
            screen.draw(clock())
    scene.close(clock())


async def _first_replica(stage: Stage, scene: Scene, console: Console) -> None:
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + FIRST_REPLICA_S / scene.scenario.pace + MARGIN_S
    with console.status("waiting for the first replica"):
        while not any(states["ready"] for states in scene.replicas().values()):
            stage.check()
            if clock() > deadline_s:
                console.print("no replica became ready in time; starting the traffic anyway")
                return
            await asyncio.sleep(FRAME_S)


class _Screen:
    """A live view on a terminal; otherwise a line every `LINE_S`."""

    def __init__(self, console: Console, scene: Scene) -> None:
        self._console, self._scene = console, scene
        self._live = Live(console=console, auto_refresh=False, screen=False) if console.is_terminal else None
        self._next_s = 0.0

    def __enter__(self) -> "_Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def draw(self, now_s: float) -> None:
        """Show the scene."""
        if self._live is not None:
            self._live.update(picture(self._scene, now_s), refresh=True)
        elif now_s >= self._next_s:
            self._next_s = now_s + LINE_S
            self._console.print(line(self._scene, now_s), highlight=False, soft_wrap=True)


async def _keep(stage: Stage, console: Console) -> None:
    """Keep everything running until Ctrl-C."""
    console.print(f"\nexport KUBECONFIG={stage.kubeconfig}", highlight=False, soft_wrap=True)
    console.print(f"clients: {stage.url}/v1   Prometheus: {stage.prometheus_url}   logs: {stage.processes.logs}")
    console.print("Everything keeps running until Ctrl-C.")
    while True:
        await asyncio.sleep(1.0)
        stage.check()


def _plane(scenario: Scenario, say: Say) -> ControlPlane:
    """The wanted control plane; for `auto` the real one if it needs no build, else the embedded one."""
    wanted = scenario.options.control_plane
    if wanted == "embedded":
        return EmbeddedControlPlane()
    try:
        effort = Effort.BUILD if wanted == "kubernetes" else Effort.DOWNLOAD
        return RealControlPlane(provide(CONTROL_PLANE, effort=effort, say=say))
    except SourceError as missing:
        if wanted == "kubernetes":
            raise
        say(f"no Kubernetes binaries available ({missing.detail}): using the embedded control plane instead")
        say("`make binaries` (or `tidegate sandbox binaries`) builds the real one (once, takes minutes)")
        return EmbeddedControlPlane()


def _prometheus(say: Say) -> Found:
    return provide(["prometheus"], effort=Effort.DOWNLOAD, say=say)["prometheus"]
