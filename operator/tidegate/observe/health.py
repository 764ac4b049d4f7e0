"""
Whether the containers of a pod run, and if not, why.

In:    container statuses as written by the kubelet.
Out:   `Health`: how often they crashed, when last, and what keeps one from running, in words that stay the same while
       the problem does.
Rules: pure. A container that is still being pulled or created has no problem.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Raw = Mapping[str, Any]

# One crash may have any cause. Two in a row count as a crash loop, until the server has been ready for two minutes, in
# which most requests that could kill it arrive. The kubelet resets its crash back-off after ten minutes too.
CRASHES = 2
SOUND_S = 120.0
CRASH_MEMORY_S = 600.0
# A server that ran for longer has loaded and served: loading takes less than the hour that the startup probe allows.
# Its crash then counts as the first, however often it restarted in the weeks before.
SERVED_S = 3600.0

# Reasons of a waiting container that are no problem yet.
_UNDER_WAY = frozenset({"", "ContainerCreating", "PodInitializing"})
# The kubelet alternates between two words for the same problem.
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff"})
# The kubelet's message for a crash loop contains the changing back-off and the pod's name. How the container ended says
# more.
_CRASH_LOOP = "CrashLoopBackOff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """
    What the container statuses of one pod say.

    Args:
        crashes: Highest number of crashes in a row of any container.
        crashed_s: When the last one happened, unix seconds; None: never.
        trouble: Why one does not run now, or how it last ended; empty: nothing is wrong.
        waits: One of them cannot run now: no image, no secret, or in back-off after a crash.
    """

    crashes: int = 0
    crashed_s: float | None = None
    trouble: str = ""
    waits: bool = False


HEALTHY = Health()


def health(containers: Iterable[Raw]) -> Health:
    """The health of a pod: that of its worst container."""
    return worst(map(_container, containers))


def worst(found: Iterable[Health]) -> Health:
    """The one that least allows for serving."""
    troubled = [each for each in found if each != HEALTHY]
    return max(troubled, key=lambda each: (each.waits, each.crashes), default=HEALTHY)


def is_failing(seen: Health, *, ready_s: float | None, time_s: float) -> bool:
    """
    Whether a pod is no capacity and will not become any: it cannot run, or crashes repeatedly.

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
    # `restartCount` rises at the restart, not at the crash.
    in_a_row = status.get("restartCount", 0) + ("running" not in state) if _lived_s(ended) < SERVED_S else 1
    crashes = in_a_row if crashed else 0
    if reason not in _UNDER_WAY and not (reason == _CRASH_LOOP and crashed):
        return Health(trouble=_refusal(reason, status, waiting), waits=True)
    if not crashed:
        return HEALTHY
    how = f"container {status.get('name', '')} exited with code {ended.get('exitCode', 0)}"
    word = ended.get("reason", "")
    return Health(
        crashes=crashes,
        crashed_s=unix_seconds(ended.get("finishedAt")),
        trouble=f"{_CRASH_LOOP}: {how} ({word})" if word else f"{_CRASH_LOOP}: {how}",
        waits=bool(waiting),
    )


def _lived_s(ended: Raw) -> float:
    """
    How long an ended container ran, seconds; 0 if unknown. A container that could not start has a start time in 1970.
    """
    began_s, ended_s = unix_seconds(ended.get("startedAt")), unix_seconds(ended.get("finishedAt"))
    return ended_s - began_s if began_s and ended_s else 0.0


def _refusal(reason: str, status: Raw, waiting: Raw) -> str:
    if reason in _IMAGE:
        return f"ImagePullBackOff: {status.get('image', 'no image')}"
    message = waiting.get("message")
    return f"{reason}: {message}" if message else reason
