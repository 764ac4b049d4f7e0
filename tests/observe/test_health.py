"""
What container statuses tell: problems in stable words, and when crashes count.
"""

from typing import Any

import pytest

from tidegate.observe.health import HEALTHY, Health, health, is_failing, unix_seconds

CRASH = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}
CRASHED_S = unix_seconds("2026-01-01T00:00:00Z")
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:10Z"}}
LOOP = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting pod=chat-x7"}}


def container(state: dict[str, Any], *, restarts: int = 0, last: dict[str, Any] | None = None) -> dict[str, Any]:
    base = {"name": "vllm", "image": "vllm/vllm-openai:v9", "state": state, "restartCount": restarts}
    return base | ({"lastState": {"terminated": last}} if last else {})


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return container({"waiting": {"reason": reason} | ({"message": message} if message else {})})


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        pytest.param(waiting("ContainerCreating"), "", id="being made is no trouble"),
        pytest.param(waiting("PodInitializing"), "", id="waiting for an init container is no trouble"),
        pytest.param(container(RUNNING), "", id="running is none"),
        pytest.param({}, "", id="a status that says nothing"),
        pytest.param(
            waiting("ErrImagePull", "manifest unknown"), "ImagePullBackOff: vllm/vllm-openai:v9", id="no such image"
        ),
        pytest.param(
            waiting("ImagePullBackOff", "Back-off pulling"),
            "ImagePullBackOff: vllm/vllm-openai:v9",
            id="the kubelet's two words for it are one",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", 'secret "hf-token" not found'),
            'CreateContainerConfigError: secret "hf-token" not found',
            id="a secret is missing",
        ),
        pytest.param(
            container(LOOP, restarts=3, last=CRASH),
            "CrashLoopBackOff: container vllm exited with code 1 (Error)",
            id="a crash loop says how the container ended, not how long it is held back",
        ),
        pytest.param(
            container(RUNNING, restarts=3, last={**CRASH, "exitCode": 137, "reason": "OOMKilled"}),
            "CrashLoopBackOff: container vllm exited with code 137 (OOMKilled)",
            id="one that runs again after a crash",
        ),
        pytest.param(
            container({"terminated": {**CRASH, "exitCode": 0, "reason": "Completed"}}),
            "",
            id="an init container that is done",
        ),
    ],
)
def test_problems_are_described(status: dict[str, Any], trouble: str) -> None:
    assert health([status]).trouble == trouble


@pytest.mark.parametrize(
    ("status", "crashes"),
    [
        pytest.param(container(RUNNING, restarts=2, last=CRASH), 2, id="two crashes led to two starts"),
        pytest.param(container(LOOP, restarts=2, last=CRASH), 3, id="a third start is held back"),
        pytest.param(container({"terminated": CRASH}), 1, id="it has just crashed"),
        pytest.param(
            container(RUNNING, restarts=5, last={**CRASH, "startedAt": "2025-12-20T00:00:00Z"}),
            1,
            id="the first crash in weeks, whatever there was before",
        ),
        pytest.param(
            container(RUNNING, restarts=5, last={**CRASH, "startedAt": "2025-12-31T23:40:00Z"}),
            5,
            id="it dies as soon as its weights are loaded",
        ),
        pytest.param(
            container(LOOP, restarts=5, last={**CRASH, "exitCode": 128, "startedAt": "1970-01-01T00:00:00Z"}),
            6,
            id="it cannot even begin",
        ),
        pytest.param(
            container(LOOP, restarts=2, last={**CRASH, "exitCode": 0, "reason": "Completed"}),
            3,
            id="a server that ends well again and again is no server",
        ),
        pytest.param(
            container(RUNNING, restarts=1, last={**CRASH, "exitCode": 0}), 0, id="it ended well and was started anew"
        ),
        pytest.param(container(RUNNING, restarts=7), 0, id="how it ended is forgotten"),
    ],
)
def test_crashes_are_counted(status: dict[str, Any], crashes: int) -> None:
    assert health([status]).crashes == crashes


def test_the_worst_container_of_a_pod_counts() -> None:
    sound, loop, blocked = container(RUNNING), container(LOOP, restarts=2, last=CRASH), waiting("ErrImagePull")
    assert health([sound, loop]).trouble.startswith("CrashLoopBackOff")
    assert health([sound, blocked, container(RUNNING, restarts=9, last=CRASH)]).trouble.startswith("ImagePull")
    assert health([sound, sound]) == HEALTHY


TWICE = Health(crashes=2, crashed_s=CRASHED_S, trouble="CrashLoopBackOff")


@pytest.mark.parametrize(
    ("seen", "ready_after_s", "now_after_s", "expected"),
    [
        pytest.param(HEALTHY, None, 5, False, id="nothing is wrong"),
        pytest.param(Health(trouble="ImagePullBackOff: x", waits=True), None, 5, True, id="it cannot be started"),
        pytest.param(Health(crashes=1, crashed_s=CRASHED_S, waits=True), None, 5, False, id="one crash is none"),
        pytest.param(TWICE, None, 5, True, id="two crashes and not ready"),
        pytest.param(TWICE, 60, 90, True, id="ready again, but only just"),
        pytest.param(TWICE, 60, 181, False, id="ready for two minutes since"),
        pytest.param(TWICE, None, 601, False, id="ten minutes without a crash"),
    ],
)
def test_failing_pods_are_recognized(
    seen: Health, ready_after_s: float | None, now_after_s: float, expected: bool
) -> None:
    assert CRASHED_S is not None
    ready_s = CRASHED_S + ready_after_s if ready_after_s is not None else None
    assert is_failing(seen, ready_s=ready_s, time_s=CRASHED_S + now_after_s) is expected
