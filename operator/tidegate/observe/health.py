"""
Whether the containers of a pod run, and why not.

In:    container statuses as a kubelet writes them.
Out:   `Health`: how often they crashed, when last, and what keeps one from running, in words that do not change while
       the trouble is the same.
Rules: pure. A container that is still being pulled or made is no trouble.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Raw = Mapping[str, Any]

# One crash may be anything. Two in a row are a habit, until the server has been ready for as long as most requests
# that could kill it need to come by; a kubelet forgets the crashes of a container after ten minutes too.
CRASHES = 2
SOUND_S = 120.0
CRASH_MEMORY_S = 600.0
# A server that ran for longer has loaded and served: no load takes more than the hour that a startup probe gives it.
# What it died of then is no habit, however often it was started anew in the weeks before.
SERVED_S = 3600.0

# Reasons of a waiting container that are no trouble yet.
_UNDER_WAY = frozenset({"", "ContainerCreating", "PodInitializing"})
# A kubelet alternates between two words for one thing.
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff"})
# The kubelet's message of a crash loop counts the back-off and names the pod: how the container ended says more.
_CRASH_LOOP = "CrashLoopBackOff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    What the containers of one pod say.

    Args:
        crashes: Most times in a row that one of them ended although it should run.
        crashed_s: When that last happened, unix seconds; None: never.
        trouble: Why one does not run now, or how it last ended; empty: nothing is wrong.
        waits: One of them cannot run now: no image, no secret, or it is held back after a crash.
    """

    crashes: int = 0
    crashed_s: float | None = None
    trouble: str = ""
    waits: bool = False


HEALTHY = Health()


def health(containers: Iterable[Raw]) -> Health:
    """The health of a pod; the worst of its containers counts."""
    found = [_container(status) for status in containers]
    found = [each for each in found if each != HEALTHY]
    return max(found, key=lambda each: (each.waits, each.crashes), default=HEALTHY)


def is_failing(seen: Health, *, ready_s: float | None, time_s: float) -> bool:
    """
    Whether a pod is no capacity and will not be: it cannot run, or crashes again and again.

    Args:
        ready_s: Since when it is ready, unix seconds; None: it is not.
        time_s: Now.
    """
    if seen.waits and seen.crashed_s is None:
        return True
    if seen.crashes < CRASHES or seen.crashed_s is None or time_s - seen.crashed_s >= CRASH_MEMORY_S:
        return False
    return ready_s is None or time_s - ready_s < SOUND_S


def unix_seconds(text: str | None) -> float | None:
    """An RFC 3339 time as unix seconds; None for none."""
    return datetime.fromisoformat(text).timestamp() if text else None


def _container(status: Raw) -> Health:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason", ""))
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    crashed = bool(ended) and (ended.get("exitCode", 0) != 0 or "waiting" in state)
    # The restart that a crash leads to is counted when it happens.
    in_a_row = status.get("restartCount", 0) + ("running" not in state) if _lived_s(ended) < SERVED_S else 1
    crashes = in_a_row if crashed else 0
    if reason not in _UNDER_WAY and not (reason == _CRASH_LOOP and crashed):
        return Health(trouble=_refusal(reason, status, waiting), waits=True)
    if not crashed:
        return HEALTHY
    how = f"container {status.get('name', '')} ended with code {ended.get('exitCode', 0)}"
    word = ended.get("reason", "")
    return Health(
        crashes=crashes,
        crashed_s=unix_seconds(ended.get("finishedAt")),
        trouble=f"{_CRASH_LOOP}: {how} ({word})" if word else f"{_CRASH_LOOP}: {how}",
        waits=bool(waiting),
    )


def _lived_s(ended: Raw) -> float:
    """How long a container ran that has ended; 0 where nobody knows. One that could not begin did so in 1970."""
    began_s, ended_s = unix_seconds(ended.get("startedAt")), unix_seconds(ended.get("finishedAt"))
    return ended_s - began_s if began_s and ended_s else 0.0


def _refusal(reason: str, status: Raw, waiting: Raw) -> str:
    if reason in _IMAGE:
        return f"ImagePullBackOff: {status.get('image', 'no image')}"
    message = waiting.get("message")
    return f"{reason}: {message}" if message else reason
