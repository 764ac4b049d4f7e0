"""
Blocking work off the event loop, in threads that never keep the process alive.

The standard executors join their threads when the interpreter exits, so one hung connection would delay a SIGTERM by
its timeout. These threads are daemons: a call that nobody awaits any more dies with the process.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result]) -> Result:
    """What `work()` returns or raises. Cancelling the await leaves the thread to run into its own timeout."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            outcome: tuple[Result | None, BaseException | None] = (work(), None)
        except BaseException as error:
            outcome = (None, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="tidegate-query", daemon=True).start()
    return await future
