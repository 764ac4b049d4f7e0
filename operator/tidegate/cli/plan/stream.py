"""
The plan protocol: ticks in, plans out, without a cluster. State is kept between lines as in the operator.

No clock, no randomness, no network: the same input lines give the same output bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

import msgspec

from tidegate import cycle
from tidegate.api import answer, protocol
from tidegate.api.convert import deployment_spec
from tidegate.domain.holdings import left_by
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, FleetObservation
from tidegate.domain.spec import Accelerator, DeploymentSpec, FleetPolicy
from tidegate.errors import SpecError
from tidegate.memory import FleetMemory

Entry = answer.Plan | answer.Refusal


@dataclass(slots=True)
class Wanted:
    """
    The spec of one deployment.

    Args:
        raw: Bytes of the spec last sent, to detect changes.
        spec: The last valid spec; None: none yet.
        fault: Why the spec last sent is invalid; None: it is valid.
    """

    raw: bytes
    spec: DeploymentSpec | None
    fault: SpecError | None


@dataclass(slots=True)
class Stream:
    """
    The state kept between lines.

    Args:
        memory: The core's memory.
        wanted: Specs by deployment.
        seen: The last valid observation of each deployment; it tells which accelerators a deployment occupies whose
            current entry is invalid.
        accelerators: Valid classes of the last tick that listed any.
        class_faults: Why the other classes of that tick are invalid.
        time_s: Time of the last planned tick; None: none yet.
    """

    memory: FleetMemory = field(default_factory=FleetMemory)
    wanted: dict[Key, Wanted] = field(default_factory=dict)
    seen: dict[Key, DeploymentObservation] = field(default_factory=dict)
    accelerators: dict[str, Accelerator] = field(default_factory=dict)
    class_faults: list[str] = field(default_factory=list)
    time_s: float | None = None

    def answer(self, line: bytes) -> bytes:
        """The output line for an input line; an invalid line changes no state."""
        try:
            tick = protocol.read_tick(line)
            self._check_time(tick.time)
        except SpecError as wrong:
            return answer.write(None, (), error=str(wrong))
        if tick.accelerators is not None:
            self._read_classes(tick.accelerators)
        entries: dict[Key, Entry | None] = {}
        refused: list[Entry] = []
        for raw in tick.deployments:
            key, deployment = _read(raw)
            if key in entries or not key.name:
                error = str(deployment) if isinstance(deployment, SpecError) else f"{key} appears twice in the tick"
                refused.append(answer.refusal(key, error))
                continue
            fault = deployment if isinstance(deployment, SpecError) else self._take(key, deployment)
            entries[key] = None if fault is None else answer.refusal(key, str(fault))
        self._plan(tick.time, entries)
        return answer.write(tick.time, [*(entry for entry in entries.values() if entry is not None), *refused])

    def _check_time(self, time_s: float) -> None:
        if self.time_s is not None and time_s <= self.time_s:
            raise SpecError(field="time", value=time_s, allowed=f"must be after the previous tick's {self.time_s}")

    def _read_classes(self, raws: Iterable[msgspec.Raw]) -> None:
        self.accelerators, self.class_faults = {}, []
        for raw in raws:
            try:
                accelerator = protocol.read_accelerator(raw)
            except SpecError as fault:
                self.class_faults.append(str(fault))
            else:
                self.accelerators[accelerator.name] = accelerator

    def _take(self, key: Key, deployment: protocol.Deployment) -> SpecError | None:
        """Store a tick's entry of one deployment. Returns why it cannot be planned, or None."""
        fault = self._want(key, bytes(deployment.spec))
        try:
            self.seen[key] = protocol.observation_of(deployment)
        except SpecError as wrong:
            return fault or wrong
        return fault

    def _want(self, key: Key, raw: bytes) -> SpecError | None:
        """Store a new spec, or keep the last one. Returns why it cannot be used, or None."""
        wanted = self.wanted.get(key)
        if raw not in (b"", b"null") and (wanted is None or raw != wanted.raw):
            wanted = self.wanted[key] = _wanted(key, raw, wanted)
        if wanted is None:
            return SpecError(field="spec", value=None, allowed="the first tick of a deployment must include its spec")
        if wanted.fault is not None:
            return wanted.fault
        for index, tier in enumerate(wanted.spec.tiers if wanted.spec is not None else ()):
            if tier.accelerator not in self.accelerators:
                known = ", ".join(sorted(self.accelerators)) or "none"
                allowed = "; ".join([f"must be an accelerator of the tick: {known}", *self.class_faults])
                return SpecError(field=f"spec.tiers[{index}].accelerator", value=tier.accelerator, allowed=allowed)
        return None

    def _plan(self, time_s: float, entries: dict[Key, Entry | None]) -> None:
        """Run one step of the core, fill in the plans, and forget deployments that the tick does not list."""
        self.wanted = {key: self.wanted[key] for key in entries if key in self.wanted}
        self.seen = {key: self.seen[key] for key in entries if key in self.seen}
        specs = {key: wanted.spec for key, wanted in self.wanted.items() if wanted.spec is not None}
        planned = {key: self.seen[key] for key, entry in entries.items() if entry is None}
        alone = [(specs[key], seen) for key, seen in self.seen.items() if key in specs and key not in planned]
        policy = FleetPolicy(deployments=specs, accelerators=left_by(alone, self.accelerators))
        observation = FleetObservation(time_s=time_s, deployments=planned)
        self.memory, decision = cycle.step(self.memory, observation, policy)
        self.time_s = time_s
        for key, decided in decision.deployments.items():
            entries[key] = answer.plan_of(decided)


def serve(lines: BinaryIO, out: BinaryIO) -> None:
    """Answer each line and flush before reading the next. A bug in the planner fails one line, not the process."""
    stream = Stream()
    for line in lines:
        try:
            reply = stream.answer(line)
        except Exception as fault:  # the loop's outermost frame
            reply = answer.write(None, (), error=f"the planner failed on this line: {fault!r}")
        out.write(reply)
        out.flush()


def _read(raw: msgspec.Raw) -> tuple[Key, protocol.Deployment | SpecError]:
    """Key of one entry of a tick, and the entry or why it is invalid."""
    try:
        deployment = protocol.read_deployment(raw)
    except SpecError as fault:
        return protocol.read_name(raw), fault
    return deployment.key, deployment


def _wanted(key: Key, raw: bytes, before: Wanted | None) -> Wanted:
    """Parse a spec; if it is invalid, keep the last valid one, so that nothing learned is lost."""
    try:
        return Wanted(raw=raw, spec=deployment_spec(key, msgspec.json.decode(raw), offline=True), fault=None)
    except SpecError as fault:
        return Wanted(raw=raw, spec=before.spec if before is not None else None, fault=fault)
