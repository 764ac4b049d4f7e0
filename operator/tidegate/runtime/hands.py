"""
From decisions to the cluster: the newest batch is carried out and reported, by the leader only.

In:    a `Batch` per tick.
Out:   writes of workloads, statuses and events; none if nothing differs.
Rules: one batch at a time, and it ends where a newer one arrives, so neither a slow API server nor a hundred new
       deployments keep an urgent decision waiting. What is left is in the newer batch, if it is still to be done.
       Deployments whose workloads get more replicas come first, then those that get fewer, then what is created or
       updated, and in each of these what has waited longest. Statuses and events come last: reporting a whole fleet
       can take a minute, and no replica waits for it. A bug met by one object affects only that object.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any, Protocol

from tidegate.actuate.findings import stalled
from tidegate.actuate.moves import urgency
from tidegate.domain.decision import Condition, Decision
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.ports import (
    ACCELERATORS,
    DEPLOYMENTS,
    GROUP,
    JSON_PATCH,
    VERSION,
    AcceleratorResource,
    AcceleratorUse,
    Actuator,
    ApiError,
    Call,
    ClusterView,
    DeploymentResource,
    Fence,
    KubeApi,
    Order,
    Outcome,
    Report,
)
from tidegate.runtime.inventory import FleetInventory

log = logging.getLogger(__name__)

Status = dict[str, Any]
Resource = DeploymentResource | AcceleratorResource
Work = Callable[[], Awaitable[None]]

# Deployments handled at once. Writes have their own, tighter limit; this one bounds tasks.
AT_ONCE = 32


class Poster(Protocol):
    """Posts events on transitions (`report.events.EventPoster`)."""

    async def post(self, report: Report, status: Status) -> None:
        """Post events for what differs between the current status and the new one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    The work of one tick.

    Args:
        time_s: When, unix seconds.
        epoch: The leadership under which it was planned.
        resources: Deployments unchanged since they were planned; others are left alone.
        absent: Tiers without a workload; see `Sight`.
        leaving: Tiers removed from the specs whose pods still serve.
        rivals: Deployments that must not scale anything, and why.
    """

    time_s: float
    epoch: int
    resources: Mapping[Key, DeploymentResource] = field(default_factory=dict)
    decisions: Mapping[Key, Decision] = field(default_factory=dict)
    observations: Mapping[Key, DeploymentObservation] = field(default_factory=dict)
    view: ClusterView = field(default_factory=ClusterView)
    absent: Mapping[Key, Collection[str]] = field(default_factory=dict)
    leaving: Mapping[Key, tuple[TierSpec, ...]] = field(default_factory=dict)
    accelerators: Mapping[str, Accelerator] = field(default_factory=dict)
    classes: tuple[AcceleratorResource, ...] = ()
    rivals: Mapping[Key, Condition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """The report package: status functions and the poster of events."""

    deployment_status: Callable[[Report], Status]
    accelerator_status: Callable[[AcceleratorResource, AcceleratorUse | None, float], Status]
    poster: Poster


class Hands:
    """
    Carries out batches.

    Args:
        api: Fenced connection.
        fence: Who may act.
        inventory: Gets each written status, so that the next tick compares with it.
        actuator, reporting: What carries out orders, and what builds statuses and events.
        faulted: Called each time a bug is met.
    """

    def __init__(
        self,
        api: KubeApi,
        fence: Fence,
        inventory: FleetInventory,
        *,
        actuator: Actuator,
        reporting: Reporting,
        faulted: Callable[[], None] = lambda: None,
    ) -> None:
        self._api, self._fence, self._inventory = api, fence, inventory
        self._actuator, self._reporting, self._faulted = actuator, reporting, faulted
        self._next: Batch | None = None
        self._submitted = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        # The number of each deployment's last turn, by uid.
        self._turns: dict[str, int] = {}
        self._turn = count()
        self._sent: dict[str, tuple[Status, Status]] = {}
        # Statuses whose events were posted, but that were not accepted yet, by uid.
        self._posted: dict[str, Status] = {}
        # Outcomes that are not reported yet, by uid; those that have waited longest come first.
        self._unreported: dict[str, Outcome | None] = {}
        # Failures met by the last batch and by this one: (uid, which).
        self._met_before: set[tuple[str, str]] = set()
        self._met: set[tuple[str, str]] = set()
        self.idle = asyncio.Event()
        self.idle.set()

    def give(self, batch: Batch) -> None:
        """Submit a tick's work; it replaces what is left of the batch before."""
        self._next = batch
        self.idle.clear()
        self._submitted.set()

    async def run(self) -> None:
        """Carry out batches until cancelled."""
        while True:
            await self._submitted.wait()
            self._submitted.clear()
            batch, self._next = self._next, None
            if batch is not None and self._leads(batch):
                await self._carry_out(batch)
            if self._next is None:
                self.idle.set()

    def _leads(self, batch: Batch) -> bool:
        """Whether the batch's own leadership lasts. After another one, its view of the cluster is outdated."""
        return self._fence.holds() and self._fence.epoch == batch.epoch

    async def _carry_out(self, batch: Batch) -> None:
        deployments = {resource.uid: resource for resource in batch.resources.values()}
        alive = self._inventory.uids()
        self._sent = {uid: sent for uid, sent in self._sent.items() if uid in alive}
        self._posted = {uid: status for uid, status in self._posted.items() if uid in alive}
        self._unreported = {uid: outcome for uid, outcome in self._unreported.items() if uid in alive}
        self._turns = {uid: turn for uid, turn in self._turns.items() if uid in alive}
        self._met_before, self._met = self._met, set()
        line = sorted(deployments.values(), key=lambda resource: self._place(resource, batch))
        await self._each([(resource, partial(self._act, resource, batch)) for resource in line], batch)
        reports: list[tuple[Resource, Work]] = [
            (class_, partial(self._accelerator, class_, batch)) for class_ in batch.classes
        ]
        unreported = [deployments[uid] for uid in self._unreported if uid in deployments]
        reports += [(resource, partial(self._report, resource, batch)) for resource in unreported]
        await self._each(reports, batch)

    def _goes_on(self, batch: Batch) -> bool:
        """Whether work of the batch may still be started."""
        return self._next is None and self._leads(batch)

    def _place(self, resource: DeploymentResource, batch: Batch) -> tuple[int, int]:
        """The place of a deployment in the line: by urgency, then by its last turn."""
        valid = isinstance(resource.spec, DeploymentSpec)
        return urgency(_order(resource, batch)) if valid else 2, self._turns.get(resource.uid, -1)

    async def _each(self, works: Iterable[tuple[Resource, Work]], batch: Batch) -> None:
        """Run the work concurrently; none is started once the batch has ended."""
        async with asyncio.TaskGroup() as group:
            for about, work in works:
                group.create_task(self._guarded(about, work, batch))

    async def _guarded(self, about: Resource, work: Work, batch: Batch) -> None:
        """Contain an object's failure: log it; the next tick tries again."""
        async with self._slots:
            await asyncio.sleep(0)  # a thousand deployments at rest must not block the event loop
            if not self._goes_on(batch):
                return
            try:
                await work()
            except ApiError as error:
                passing = error.reason in {"NotLeader", "NotFound", "Conflict"}
                level = logging.DEBUG if passing or not self._is_new(about, error.reason) else logging.WARNING
                log.log(level, "%s: %s", _name(about), error)
            except Exception as fault:
                self._record_bug(about, fault)

    def _record_bug(self, about: Resource, fault: Exception) -> None:
        """Count a bug, and log it when it is first met: the alert lasts as long as the count rises."""
        self._faulted()
        if self._is_new(about, repr(fault)):
            log.error("%s: a bug in Tidegate, please report it", _name(about), exc_info=fault)

    def _is_new(self, about: Resource, failure: str) -> bool:
        """Whether the last batch did not meet it: a failure is logged once, not at each tick that meets it again."""
        met = (about.uid, failure)
        self._met.add(met)
        return met not in self._met_before

    async def _act(self, resource: DeploymentResource, batch: Batch) -> None:
        """
        Carry out the decision on one deployment; the outcome waits to be reported.

        In a large fleet, or with a slow API server, an order may wait for a minute. What was paused, edited or deleted
        meanwhile is left to the next plan.
        """
        now = self._now(resource)
        if now is None or (now.generation, now.spec) != (resource.generation, resource.spec):
            return
        try:
            outcome = await self._outcome(resource, batch)
        except Exception as fault:
            self._record_bug(resource, fault)
            outcome = _failed(fault)
        self._turns[resource.uid] = next(self._turn)
        self._unreported[resource.uid] = _joined(self._unreported.get(resource.uid), outcome)

    async def _outcome(self, resource: DeploymentResource, batch: Batch) -> Outcome | None:
        """Carry out what may be carried out: a valid spec in mode Auto, not paused, and planned without an error."""
        spec = resource.spec
        if not isinstance(spec, DeploymentSpec) or not spec.acts:
            return None
        if rival := batch.rivals.get(resource.key):
            return Outcome(conditions=(rival,))
        outcome = await self._actuator.carry_out(_order(resource, batch), lambda: self._goes_on(batch))
        for action in outcome.actions:
            log.info(action, extra={"deployment": str(resource.key)})
        return outcome

    async def _report(self, resource: DeploymentResource, batch: Batch) -> None:
        """Report one deployment: events and status, based on its latest status."""
        now = self._now(resource)
        if now is None:
            return  # deleted, or another shard's by now
        resource = replace(resource, status=now.status)
        outcome = self._unreported[resource.uid]
        report = Report(
            resource=resource,
            decision=batch.decisions.get(resource.key),
            observation=batch.observations.get(resource.key),
            outcome=outcome,
            view=batch.view,
            leaving=batch.leaving.get(resource.key, ()),
            time_s=batch.time_s,
            accelerators=batch.accelerators,
        )
        status = self._reporting.deployment_status(report)
        if not self._is_current(resource.uid, status, resource.status):
            before = self._posted.get(resource.uid, resource.status)
            await self._reporting.poster.post(replace(report, resource=replace(resource, status=before)), status)
            self._posted[resource.uid] = status
            # If the status is refused, it is tried again after those that wait.
            del self._unreported[resource.uid]
            self._unreported[resource.uid] = None
            await self._write_deployment(resource, status)
            del self._posted[resource.uid]
        del self._unreported[resource.uid]

    async def _write_deployment(self, resource: DeploymentResource, status: Status) -> None:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{resource.key.namespace}/{DEPLOYMENTS}/{resource.key.name}"
        written = await self._write_status(path, resource.uid, status)
        if now := self._now(resource):
            self._inventory.put_deployment(replace(now, status=written))

    def _now(self, resource: DeploymentResource) -> DeploymentResource | None:
        """The deployment as it is now; None if it is gone, even if another one has its name."""
        now = self._inventory.deployments.get(resource.key)
        return now if now is not None and now.uid == resource.uid else None

    async def _accelerator(self, class_: AcceleratorResource, batch: Batch) -> None:
        status = self._reporting.accelerator_status(class_, batch.view.accelerators.get(class_.name), batch.time_s)
        if self._is_current(class_.uid, status, class_.status):
            return
        written = await self._write_status(f"/apis/{GROUP}/{VERSION}/{ACCELERATORS}/{class_.name}", class_.uid, status)
        now = self._inventory.accelerators.get(class_.name)
        if now is not None and now.uid == class_.uid:
            self._inventory.put_accelerator(replace(now, status=written))

    def _is_current(self, uid: str, status: Status, there: Mapping[str, Any]) -> bool:
        """
        Whether the status is already there, or was sent and is as the server stored it (an old CRD may drop fields).
        """
        return status == there or self._sent.get(uid) == (status, there)

    async def _write_status(self, path: str, uid: str, status: Status) -> Status:
        """Replace the whole status of exactly this object; returns what the server stored."""
        body = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        answer = await self._api.send(Call(method="PATCH", path=f"{path}/status", body=body, content_type=JSON_PATCH))
        kept = dict(answer.get("status") or {})
        self._sent[uid] = (status, kept)
        return kept


def _order(resource: DeploymentResource, batch: Batch) -> Order:
    """
    The batch's order for a deployment. A plan that failed decides nothing.

    Nor does that of a deployment without any workload, for which no accelerators are kept: what can be created at last
    is scaled by the next plan.
    """
    decision, absent = batch.decisions.get(resource.key), batch.absent.get(resource.key, ())
    if decision is not None and decision.error is not None:
        decision = None
    if all(tier.name in absent for tier in resource.valid_spec.tiers):
        decision = None
    return Order(resource=resource, decision=decision, view=batch.view, accelerators=batch.accelerators)


def _name(about: Resource) -> str:
    return str(about.key) if isinstance(about, DeploymentResource) else about.name


def _joined(before: Outcome | None, now: Outcome | None) -> Outcome | None:
    """The new outcome, with earlier actions that were not reported yet."""
    if before is None or not before.actions:
        return now
    if now is None:
        return Outcome(actions=before.actions, asked=before.asked)
    return replace(now, actions=(*before.actions, *now.actions))


def _failed(fault: Exception) -> Outcome:
    message = f"the operator failed on this deployment, which is left as it is; please report it: {fault!r}"
    return Outcome(conditions=(stalled("OperatorFault", message),))
