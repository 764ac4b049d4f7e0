"""
From pods of a tier to replicas of a tier.

In:    the pods as the cluster has them, the replicas its workload asks for, and what Prometheus reports of each pod.
Out:   `TierState`.
Rules: no I/O, time is an argument. `Roster` remembers five things between ticks: which pods have answered, which have
       shown rates, which served at the last tick, which left recently, how long starts took. After a restart it
       rebuilds them from the pods and the first scrapes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from statistics import median
from typing import NamedTuple

from tidegate.domain.key import Key
from tidegate.domain.observation import Missing, TierReading, TierState
from tidegate.observe.decode import PodName, Samples
from tidegate.observe.health import is_failing, worst
from tidegate.observe.objects import PodView
from tidegate.observe.readings import TierPods, tier_reading

# A ready replica counts once Prometheus has a sample of it. After this long it counts anyway: then scraping is broken,
# and MetricsAvailable says so. Four scrapes of 15 s plus the time Prometheus takes to discover a pod.
ANSWER_GRACE_S = 90.0

# Start-up time is the median of the newest starts, so that a single image pull does not stand for all.
STARTS_REMEMBERED = 3

# Kubernetes keeps the last time a pod became ready, not the first. If that is within half an hour of its creation, it
# is taken for the start; later it may be a flap of the probe that happened unobserved. Loads take 35 to 226 s, a new
# node and a large image some ten minutes each.
WITNESSED_S = 1800.0
# A start that took longer waited for room, and the next replica need not wait as long.
STARTUP_S_MAX = 3600.0

TierKey = tuple[Key, str]

# Labels that tell the pods of one template from those of another: of Deployments, Argo Rollouts and StatefulSets.
_TEMPLATE = ("pod-template-hash", "rollouts-pod-template-hash", "controller-revision-hash")
# The ordinal of a StatefulSet's pod.
_ORDINAL = "apps.kubernetes.io/pod-index"


class Start(NamedTuple):
    """When a pod was created, how long it took to become ready, s, and whether it crashed meanwhile."""

    created_s: float
    took_s: float
    interrupted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TierView:
    """
    What the cluster has of one tier.

    Args:
        pods: Its pods, including ended ones.
        wanted: Replicas its workload asks for; None: there is no workload.
        refused: Why no more pods are created; empty: they are.
        workers: If a replica is a group of pods, the pods that serve as part of another one in `pods`.
    """

    pods: tuple[PodView, ...]
    wanted: int | None
    refused: str = ""
    workers: tuple[PodView, ...] = ()

    @property
    def all(self) -> tuple[PodView, ...]:
        """Every pod that holds accelerators for it."""
        return (*self.pods, *self.workers)


@dataclass(slots=True)
class Roster:
    """What is remembered of pods, by name, between ticks."""

    window_s: float
    stale_s: float
    _answered: set[str] = field(default_factory=set)
    _had_rates: set[str] = field(default_factory=set)
    _serving: dict[TierKey, set[str]] = field(default_factory=dict)
    _known: dict[TierKey, dict[PodName, float]] = field(default_factory=dict)
    _starts: dict[TierKey, dict[str, Start]] = field(default_factory=dict)
    _witnessed: dict[TierKey, dict[str, bool]] = field(default_factory=dict)

    def states(
        self, tiers: Mapping[TierKey, TierView], samples: Samples | Missing, *, time_s: float
    ) -> dict[TierKey, TierState]:
        """State of every tier at `time_s` (unix seconds); what is remembered of other tiers is dropped."""
        for memory in (self._serving, self._known, self._starts, self._witnessed):
            for gone in memory.keys() - tiers.keys():
                del memory[gone]
        alive = {pod.life for view in tiers.values() for pod in view.pods}
        self._answered &= alive
        self._had_rates &= alive
        return {tier: self._state(tier, view, samples, time_s) for tier, view in tiers.items()}

    def _state(self, tier: TierKey, view: TierView, samples: Samples | Missing, time_s: float) -> TierState:
        pods = [_with_group(pod, view.workers) for pod in view.pods if not pod.ended]
        answering = [pod for pod in pods if pod.ready and self._serves(pod, samples, time_s)]
        serving = {pod.uid for pod in answering}
        ready = _asked_for(answering, view.wanted)
        starting = [pod for pod in pods if not pod.terminating and pod.uid not in serving]
        arrived = len(serving - self._serving.get(tier, serving))
        self._serving[tier] = serving
        self._learn_starts(tier, pods, time_s)
        # Requested replicas without a pod (a quota, or the controller has not got to them yet) count as starting.
        not_ready = max(0, view.wanted - len(ready)) if view.wanted is not None else 0
        lost = [pod for pod in starting if pod.lost]
        alive = [pod for pod in starting if not pod.lost]
        failing = [pod for pod in alive if is_failing(pod.health, ready_s=pod.ready_s, time_s=time_s)]
        podless = max(0, not_ready - len(starting))
        # If no replica is missing, the refused pod is one of a rollout.
        refused_rollout = int(bool(view.refused and view.wanted) and not podless)
        refused = podless + refused_rollout if view.refused else 0
        surplus = _surplus(starting, [*failing, *lost], not_ready) if view.wanted is not None else 0
        unasked = max(0, len(starting) - surplus - not_ready) if view.wanted is not None else 0
        troubles = {pod.health.trouble for pod in failing} | ({view.refused} if refused else set())
        troubles |= {f"node {pod.lost} is not ready" for pod in lost}
        state = TierState(
            ready=len(ready),
            starting=max(len(starting) - surplus, not_ready) + refused_rollout,
            surplus=surplus,
            terminating=sum(pod.terminating for pod in pods) + len(answering) - len(ready),
            startup_s=self._startup_s(tier),
            unplaced=podless + refused_rollout + sum(not pod.node for pod in starting),
            unschedulable=sum(pod.unschedulable for pod in starting),
            failing=len(failing) + refused,
            lost=len(lost),
            unasked=unasked + refused_rollout,
            arrived=arrived,
            spares_ready=_spares_ready(ready, starting),
            trouble=", ".join(sorted(troubles)),
        )
        leaving = self._leaving(tier, ready, pods, time_s)
        return replace(state, reading=self._reading(view, ready, leaving, samples))

    def _reading(
        self, view: TierView, ready: list[PodView], leaving: Iterable[PodName], samples: Samples | Missing
    ) -> TierReading | Missing:
        if not ready:
            gone = Missing(reason="NoWorkload", detail="the tier's workload does not exist")
            return gone if view.wanted is None else Missing(reason="NoReplicas")
        if isinstance(samples, Missing):
            return samples
        pods = TierPods(
            ready=tuple(map(_name, ready)),
            leaving=tuple(leaving),
            workers=tuple(_name(pod) for pod in view.workers if pod.ready),
            fresh=frozenset(_name(pod) for pod in ready if pod.life not in self._had_rates),
        )
        return tier_reading(pods, samples, window_s=self.window_s, stale_s=self.stale_s)

    def _leaving(self, tier: TierKey, ready: list[PodView], pods: list[PodView], time_s: float) -> tuple[PodName, ...]:
        """
        Pods that are no longer capacity but received requests within the window: terminating ones, and those already
        deleted. Without them each scale-down would look like a drop in demand and cause the next.
        """
        known = self._known.setdefault(tier, {})
        known.update({_name(pod): time_s for pod in pods})
        for name in [name for name, seen_s in known.items() if time_s - seen_s > self.window_s]:
            del known[name]
        staying = set(map(_name, ready))
        return tuple(name for name in known if name not in staying)

    def _learn_starts(self, tier: TierKey, pods: list[PodView], time_s: float) -> None:
        """Remember how long each observed start took; later flaps of the readiness probe change nothing."""
        starts, before = self._starts.setdefault(tier, {}), self._witnessed.get(tier, {})
        witnessed = {pod.uid: before.get(pod.uid, _is_start(pod, time_s)) for pod in pods}
        self._witnessed[tier] = witnessed
        for pod in pods:
            if pod.ready_s is not None and witnessed[pod.uid] and pod.uid not in starts:
                took_s = max(0.0, pod.ready_s - pod.created_s)
                starts[pod.uid] = Start(pod.created_s, min(took_s, STARTUP_S_MAX), interrupted=pod.restarts > 0)
        for uid in sorted(starts, key=lambda uid: starts[uid].created_s)[:-STARTS_REMEMBERED]:
            # Pods that still exist stay listed, so that a flap is not taken for a start.
            if uid not in witnessed:
                del starts[uid]

    def _startup_s(self, tier: TierKey) -> float | None:
        """The usual start; one with crashes counts only while none without was seen: they may be usual, too."""
        newest = sorted(self._starts[tier].values())[-STARTS_REMEMBERED:]
        smooth = [start for start in newest if not start.interrupted] or newest
        return median(start.took_s for start in smooth) if smooth else None

    def _serves(self, pod: PodView, samples: Samples | Missing, time_s: float) -> bool:
        """Ready, not crash-looping, and either seen answering since its last restart, or it cannot be known."""
        if is_failing(pod.health, ready_s=pod.ready_s, time_s=time_s):
            return False
        if isinstance(samples, Missing):
            return True
        sample = samples.get((pod.namespace, pod.name))
        if sample is not None and sample.asleep:
            return False
        if sample is not None and sample.answers(self.stale_s):
            self._answered.add(pod.life)
            if sample.flows:
                self._had_rates.add(pod.life)
        waited_s = time_s - (pod.ready_s if pod.ready_s is not None else time_s)
        return pod.life in self._answered or waited_s > ANSWER_GRACE_S


def _with_group(leader: PodView, workers: Iterable[PodView]) -> PodView:
    """
    A leader that is not ready, with what keeps the other pods of its group from starting: it waits for them.

    Their crashes do not count: a worker may be restarted until its leader can be reached. With a worker that is lost,
    its leader is lost, even if it has not noticed yet.
    """
    waited = [pod for pod in workers if pod.group == leader.group and not pod.terminating]
    if node := next((pod.lost for pod in waited if pod.lost), ""):
        return replace(leader, lost=node, ready=False, ready_s=None)
    if leader.ready or not waited:
        return leader
    health = worst([leader.health, *(pod.health for pod in waited if pod.health.crashed_s is None)])
    return replace(leader, health=health, unschedulable=any(pod.unschedulable for pod in (leader, *waited)))


def _asked_for(answering: list[PodView], wanted: int | None) -> list[PodView]:
    """
    As many of the answering pods as the workload asks for, those first that have been ready longest.

    The others are about to leave, or belong to somebody else (a canary with the same labels, the new half of a
    blue-green rollout). If they counted, a fleet that is held at its ready replicas would grow by them at each tick.
    """
    return sorted(answering, key=lambda pod: pod.ready_s or 0.0)[:wanted]


def _surplus(starting: list[PodView], hopeless: list[PodView], not_ready: int) -> int:
    """
    Pods of a rollout: they start next to the pods they replace, and nobody asked for more replicas.

    A pod that cannot start does not count here; it is reported as a finding. Nor does it take the place of one that
    can, and that may be the replica asked for.
    """
    never = {pod.uid for pod in hopeless} | {pod.uid for pod in starting if pod.unschedulable}
    return max(0, len(starting) - len(never) - not_ready)


def _spares_ready(ready: Iterable[PodView], starting: Iterable[PodView]) -> bool:
    """
    Whether fewer requested replicas cost starting pods before ready ones.

    So it is in a ReplicaSet. A rollout has several of them, which shrink in proportion to their size. A StatefulSet
    removes the pods with the highest ordinals, ready or not.
    """
    templates = {pod.labels.get(label) for pod in (*ready, *starting) for label in _TEMPLATE if label in pod.labels}
    first = min(map(_ordinal, starting), default=inf)
    return len(templates) <= 1 and all(_ordinal(pod) <= first for pod in ready)


def _ordinal(pod: PodView) -> int:
    """The ordinal of a StatefulSet's pod; 0 for the pods of others, on which users may write anything."""
    written = pod.labels.get(_ORDINAL, "")
    return int(written) if written.isdecimal() else 0


def _is_start(pod: PodView, time_s: float) -> bool:
    """Whether a pod seen for the first time is starting for the first time, or has just done so."""
    starting_s = pod.ready_s if pod.ready_s is not None else time_s
    return not pod.restarts and starting_s - pod.created_s <= WITNESSED_S


def _name(pod: PodView) -> PodName:
    return pod.namespace, pod.name
