"""A scripted API server behind the `KubeApi` port, and a clock that tests control."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from tidegate.ports import ApiError, Call

Json = dict[str, Any]


class Clock:
    """Monotonic seconds that only a test moves."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class ScriptedApi:
    """
    Answers by (method, path); a value that is an exception is raised, a callable is called with the call.

    Watches yield what `events` holds for the path; `None` ends the watch, an exception is raised.
    """

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.calls: list[Call] = []
        self.watches: list[Call] = []
        self._events: dict[str, asyncio.Queue[Any]] = {}

    def events(self, path: str) -> "asyncio.Queue[Any]":
        return self._events.setdefault(path, asyncio.Queue())

    async def send(self, call: Call) -> Json:
        self.calls.append(call)
        answer = self.answers.get((call.method, call.path))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            result = answer(call)
            return dict(await result if asyncio.iscoroutine(result) else result)
        if answer is None:
            raise not_found(call.path)
        return dict(answer)

    async def watch(self, call: Call) -> AsyncIterator[Json]:
        self.watches.append(call)
        queue = self.events(call.path)
        while True:
            event = await queue.get()
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            yield event

    def written(self) -> list[Call]:
        """Every call that is not a read."""
        return [call for call in self.calls if call.method != "GET"]


def not_found(path: str) -> ApiError:
    return ApiError(status=404, reason="NotFound", detail=path)


def gone() -> ApiError:
    return ApiError(status=410, reason="Expired", detail="too old resource version")


def down() -> ApiError:
    return ApiError(status=0, reason="Unreachable", detail="connection refused")


async def until(condition: Callable[[], object], *, steps: int = 2000) -> None:
    """Let the event loop turn until a condition holds; no clock is involved."""
    for _ in range(steps):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")
