"""
Everything that runs during a demo.

In:    a scenario, and the programs.
Out:   a `Stage` with addresses; on exit every process is stopped and every file deleted.

Order of start: control plane, CRDs and RBAC, Prometheus, nodes, front end, operator, manifests. Each part is a separate
process, so that none waits for another's interpreter, and all end with this one.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidegate.errors import SourceError
from tidegate.sandbox import prometheus
from tidegate.sandbox.binaries import Found
from tidegate.sandbox.control_plane import Account, RealControlPlane
from tidegate.sandbox.control_plane.processes import Processes, working_folder
from tidegate.sandbox.control_plane.real import free_ports
from tidegate.sandbox.demo.apply import apply
from tidegate.sandbox.demo.rights import rights
from tidegate.sandbox.demo.scenario import Scenario, machines_for
from tidegate.sandbox.discovery import finds_pods_itself
from tidegate.sandbox.embedded import EmbeddedControlPlane
from tidegate.sandbox.kube import Kube, Object
from tidegate.sandbox.kubelet.addresses import Claim, listening, node_address
from tidegate.sandbox.kubelet.machines import Machine
from tidegate.sandbox.kubelet.nodes import EXPORTER_PORT

HOST = "127.0.0.1"
OPERATOR_NAMESPACE, OPERATOR_ACCOUNT = "tidegate-system", "tidegate"
SCRAPE_S = 1.0
# Tick, rate window and stale age are shortened, because the day is compressed; they are the smallest allowed values.
OPERATOR_FLAGS = ("--tick=5", "--window=10", "--stale=10", "--history-days=0")

Say = Callable[[str], None]
ControlPlane = RealControlPlane | EmbeddedControlPlane


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Ports on 127.0.0.1."""

    prometheus: int
    front: int
    front_metrics: int
    operator: int


class Stage:
    """
    Everything that runs; an async context manager.

    Args:
        scenario: The inputs.
        plane: A control plane that is not started yet.
        prometheus_program: The Prometheus program.
        say: Called with a line per step.
    """

    def __init__(self, scenario: Scenario, *, plane: ControlPlane, prometheus_program: Found, say: Say) -> None:
        self.scenario, self._plane, self._program, self._say = scenario, plane, prometheus_program, say
        self.ports = Ports(**dict(zip(Ports.__slots__, free_ports(len(Ports.__slots__)), strict=True)))
        self.machines: list[Machine] = []
        self._exits = AsyncExitStack()

    @property
    def url(self) -> str:
        """URL for clients."""
        return f"http://{HOST}:{self.ports.front}"

    @property
    def prometheus_url(self) -> str:
        """URL of Prometheus."""
        return f"http://{HOST}:{self.ports.prometheus}"

    @property
    def lag_urls(self) -> list[str]:
        """URLs at which each node reports how late its servers' steps end."""
        return [f"http://{listening(node_address(m.number))}:{EXPORTER_PORT}/emulator" for m in self.machines]

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    async def _start(self) -> None:
        self.folder = working_folder()
        self._exits.callback(shutil.rmtree, self.folder, ignore_errors=True)
        claim = Claim(len(machines_for(self.scenario.accelerators)), port=EXPORTER_PORT)
        self._exits.callback(claim.close)
        self.machines = machines_for(self.scenario.accelerators, first=claim.first)
        self._say(f"control plane: {self._plane.kind}")
        await self._exits.enter_async_context(self._plane)
        self.processes = Processes(self.folder / "logs")
        self._exits.callback(self.processes.stop)
        admin = self._plane.admin
        self.kubeconfig = admin.write_kubeconfig(self.folder / "admin.kubeconfig")
        session = await self._exits.enter_async_context(admin.session())
        self.kube = Kube(session)
        self._say("applying CRDs and RBAC")
        await self.apply(self.scenario.definitions)
        await self.apply(rights(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT))
        self._say("starting Prometheus, the nodes and the front end")
        self.start_prometheus()
        self._start_nodes(admin)
        self._start_front(admin)
        self._say("starting the operator")
        await self.start_operator()
        self._say("applying the manifests")
        await self.apply(self.scenario.documents)

    async def apply(self, documents: Sequence[Object]) -> None:
        """Apply objects server-side; see `demo.apply`."""
        for document in documents:
            await apply(self.kube, document)

    def start_traffic(self) -> Path:
        """Start the replayer; returns the file to which it writes outcomes."""
        rows = [(a.time_s, a.prompt_tokens, a.output_tokens) for a in self.scenario.arrivals]
        arrivals = self._write("arrivals.json", json.dumps(rows))
        outcomes = self.folder / "outcomes.jsonl"
        config = {
            "arrivals": str(arrivals),
            "url": self.url,
            "model": self.scenario.deployment.model,
            "seed": self.scenario.options.seed,
            "outcomes": str(outcomes),
        }
        self._start_module("traffic", config)
        return outcomes

    def check(self) -> None:
        """
        Check that everything is running.

        Raises:
            SourceError: A process died; with the end of its log.
        """
        for name, why in self.processes.dead().items():
            if name != "traffic" or "exit code 0" not in why:
                raise SourceError(source=name, reason="Died", detail=why)

    def start_prometheus(self) -> None:
        """Start Prometheus, or restart it with its data after it was stopped."""
        admin = self._plane.admin
        token = self._write("token", admin.token)
        sources = prometheus.Sources(
            account=admin,
            token_file=token,
            front_port=self.ports.front_metrics,
            own_discovery=finds_pods_itself(self._program.path),
        )
        text = prometheus.configuration(sources, interval_s=SCRAPE_S)
        config = self._write("prometheus.yml", text)
        data = self.folder / "prometheus"
        line = prometheus.command(self._program.path, config=config, data=data, port=self.ports.prometheus)
        self.processes.start("prometheus", line)

    def _start_nodes(self, admin: Account) -> None:
        config = {
            **admin.to_json(),
            "pace": self.scenario.pace,
            "seed": self.scenario.options.seed,
            "runtime": self.scenario.options.runtime,
            "machines": [asdict(machine) for machine in self.machines],
        }
        self._start_module("kubelet", config)

    def _start_front(self, admin: Account) -> None:
        key = self.scenario.deployment.key
        config = {
            **admin.to_json(),
            "policy": self.scenario.options.policy.value,
            "metrics_port": self.ports.front_metrics,
            "services": [{"namespace": key.namespace, "name": key.name, "port": self.ports.front}],
        }
        self._start_module("front", config)

    async def start_operator(self) -> None:
        """Start the operator, or restart it after it was killed."""
        account = await self._plane.service_account(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        kubeconfig = account.write_kubeconfig(self.folder / "operator.kubeconfig")
        command = [
            *(sys.executable, "-m", "tidegate", "run"),
            *OPERATOR_FLAGS,
            f"--kubeconfig={kubeconfig}",
            f"--prometheus-url={self.prometheus_url}",
            f"--operator-namespace={OPERATOR_NAMESPACE}",
            f"--listen={HOST}:{self.ports.operator}",
        ]
        self.processes.start("operator", command)

    def _start_module(self, name: str, config: Mapping[str, Any]) -> None:
        path = self._write(f"{name}.json", json.dumps(config))
        self.processes.start(name, [sys.executable, "-m", f"tidegate.sandbox.{name}", str(path)])

    def _write(self, name: str, text: str) -> Path:
        """Write a file that only this user can read, because some contain tokens."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path
