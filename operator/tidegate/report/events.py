"""
Kubernetes events: what happened to a deployment, reported once.

In:    a `Report` and the new status.
Out:   events on transitions: a decision that changes replicas, a condition that changes, a refused write.
Rules: never per tick. Each object has a small allowance, and so has the whole operator, so that a flapping deployment
       cannot flood the API server. A lost event is not repeated: the status holds the truth.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.ports import GROUP, VERSION, ApiError, Call, DeploymentResource, Fence, KubeApi, Report, by_key
from tidegate.report.numbers import instant

log = logging.getLogger(__name__)
Json = dict[str, Any]

COMPONENT = "tidegate"
# Like client-go's limits: a burst for one incident, then one event every five minutes.
OBJECT_BURST, OBJECT_PERIOD_S = 8, 300.0
FLEET_BURST, FLEET_PERIOD_S = 50, 0.1
# Number of remembered objects from which full allowances are dropped.
REMEMBERED = 1000
# The API server accepts 1024 bytes.
NOTE_BYTES = 1000

# Condition -> the status that calls for a warning.
_WARNS = {
    "Ready": "False",
    "Stalled": "True",
    "SLOMet": "False",
    "WithinBudget": "False",
    "MetricsAvailable": "False",
    "CapacityAvailable": "False",
    "QualityReduced": "True",
    "ScalingLimited": "True",
    "FallbackActive": "True",
    "ConfigurationWarning": "True",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; `reason` is the code that status and metrics use too."""

    reason: str
    message: str
    action: str
    warning: bool = False


class Allowance:
    """A token bucket: `burst` at once, then one per period."""

    def __init__(self, burst: int, period_s: float, clock: Callable[[], float]) -> None:
        self._burst, self._period_s, self._clock = burst, period_s, clock
        self._tokens, self._at = float(burst), clock()

    def is_full(self) -> bool:
        """Whether nothing was taken for long enough."""
        self._fill()
        return self._tokens >= self._burst

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._period_s)
        self._at = now

    def take(self) -> bool:
        """True if one was left."""
        self._fill()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class EventPoster:
    """
    Posts events.

    Args:
        api: Connection.
        fence: Who may write.
        clock: Monotonic seconds, for the allowances.
    """

    def __init__(self, api: KubeApi, fence: Fence, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._fence, self._clock = api, fence, clock
        self._fleet = Allowance(FLEET_BURST, FLEET_PERIOD_S, clock)
        self._objects: dict[str, Allowance] = {}
        self._count = 0

    async def post(self, report: Report, status: Mapping[str, Any]) -> None:
        """Post what differs between the current status and the new one; never raises `ApiError`."""
        for event in events(report, status):
            if not (self._fence.holds() and self._allowance(report.resource.uid).take() and self._fleet.take()):
                return
            try:
                await self._api.send(self._call(report.resource, event, report.time_s))
            except ApiError as fault:
                log.debug("event %s of %s was not sent: %s", event.reason, report.resource.key, fault)
                return

    def _allowance(self, uid: str) -> Allowance:
        """The allowance of an object; full ones need not be remembered."""
        if uid not in self._objects:
            if len(self._objects) >= REMEMBERED:
                self._objects = {key: left for key, left in self._objects.items() if not left.is_full()}
            self._objects[uid] = Allowance(OBJECT_BURST, OBJECT_PERIOD_S, self._clock)
        return self._objects[uid]

    def _call(self, resource: DeploymentResource, event: Event, time_s: float) -> Call:
        self._count += 1
        # Unique across restarts and leaders: the time in nanoseconds, as in client-go, plus a counter.
        name = f"{resource.key.name}.{int(time_s * 1e9) + self._count:x}"
        body = event_body(resource, event, name=name, time_s=time_s)
        path = f"/apis/events.k8s.io/v1/namespaces/{resource.key.namespace}/events"
        return Call(method="POST", path=path, body=body)


def events(report: Report, status: Mapping[str, Any]) -> Iterator[Event]:
    """What happened between the current status and the new one, most important first."""
    old = report.resource.status
    actions = report.outcome.actions if report.outcome is not None else ()
    if actions:
        yield Event(reason=_reason(status), message=f"{'; '.join(actions)} ({_message(status)})", action="Scale")
    yield from _turned(old, status)
    before, after = old.get("decision") or {}, status.get("decision") or {}
    if after.get("reason") != before.get("reason") and not actions:
        yield Event(reason=_reason(status), message=_message(status), action="Plan")


def event_body(resource: DeploymentResource, event: Event, *, name: str, time_s: float) -> Json:
    """An event of events.k8s.io/v1 on the custom resource."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": resource.key.namespace},
        "eventTime": instant(time_s).replace("Z", ".000000Z"),
        "reportingController": f"{GROUP}/operator",
        "reportingInstance": COMPONENT,
        "action": event.action,
        "reason": event.reason,
        "note": event.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
        "type": "Warning" if event.warning else "Normal",
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceDeployment",
            "namespace": resource.key.namespace,
            "name": resource.key.name,
            "uid": resource.uid,
        },
    }


def _turned(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Event]:
    """Conditions that started to warn, changed their reason while warning, or recovered."""
    before, after = by_key(old.get("conditions"), "type"), by_key(new.get("conditions"), "type")
    for kind, bad in _WARNS.items():
        was, now = before.get(kind, {}), after.get(kind, {})
        was_bad, is_bad = was.get("status") == bad, now.get("status") == bad
        if is_bad and (not was_bad or was.get("reason") != now.get("reason")):
            # Stalled says the same, and a deployment that was just created cannot be ready.
            if kind != "Ready" or not after.keys() & {"Stalled", "Reconciling"}:
                yield Event(reason=now["reason"], message=f"{kind}: {now['message']}", action=kind, warning=True)
        elif was_bad and not is_bad and now.get("status") != "Unknown":
            yield Event(reason=f"{kind}Recovered", message=f"{kind} has recovered", action=kind)


def _reason(status: Mapping[str, Any]) -> str:
    return str((status.get("decision") or {}).get("reason") or "Applied")


def _message(status: Mapping[str, Any]) -> str:
    return str((status.get("decision") or {}).get("message") or "to match the spec")
