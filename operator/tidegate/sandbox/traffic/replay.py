"""
Open-loop replay: each request is sent when it is due, independent of earlier ones.

In:    arrivals and an address.
Out:   one outcome per request, as soon as it ends.
Rules: one connection per request; times are measured by the client, starting before the request is written; the number
       of tokens is the usage that the server reports at the end, because an event may contain several tokens.
"""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from tidegate.sandbox.traffic.arrivals import Arrival
from tidegate.sandbox.traffic.outcomes import Outcome

# Range of token ids: within the smallest vocabulary of a real server, and above its special tokens.
IDS = (10, 1000)
TIMEOUT_S = 120.0
DONE = b"data: [DONE]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests are sent: URL of the front end, and model name."""

    url: str
    model: str
    timeout_s: float = TIMEOUT_S


async def replay(arrivals: Sequence[Arrival], target: Target, *, seed: int, ended: Callable[[Outcome], None]) -> None:
    """
    Send every request when it is due, and return when the last one has ended.

    Args:
        arrivals: Sorted by time.
        target: Where to send them.
        seed: Seed of the prompts, which are random, so that they share no prefix.
        ended: Called with each outcome.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=target.timeout_s)
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as tasks:
        start_s = loop.time()
        for arrival in arrivals:
            body = _body(arrival, target.model, chance)
            await asyncio.sleep(max(0.0, start_s + arrival.time_s - loop.time()))
            tasks.create_task(_one(session, target, arrival, body, start_s=start_s, ended=ended))


async def _one(
    session: aiohttp.ClientSession,
    target: Target,
    arrival: Arrival,
    body: bytes,
    *,
    start_s: float,
    ended: Callable[[Outcome], None],
) -> None:
    clock = asyncio.get_running_loop().time
    sent_s = clock()
    reading = _Reading()
    error = ""
    try:
        async with session.post(
            f"{target.url}/v1/completions", data=body, headers={"Content-Type": "application/json"}
        ) as response:
            if response.status != 200:
                error = f"HTTP {response.status}"
            else:
                async for part in response.content.iter_any():
                    reading.add(part, clock())
                error = reading.error()
    except TimeoutError:
        error = "Timeout"
    except aiohttp.ClientError as broken:
        error = type(broken).__name__
    gaps = reading.tokens - 1
    itl_s = (reading.last_s - reading.first_s) / gaps if reading.first_s and reading.last_s and gaps > 0 else None
    ended(
        Outcome(
            arrival_s=arrival.time_s,
            late_s=sent_s - start_s - arrival.time_s,
            ttft_s=reading.first_s - sent_s if reading.first_s is not None else None,
            itl_s=itl_s,
            output_tokens=reading.tokens,
            ended_s=clock() - start_s,
            error=error,
        )
    )


class _Reading:
    """What was read from one stream so far. Only its end is parsed, to save CPU time."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.last_s: float | None = None
        self._tail = b""

    def add(self, part: bytes, now_s: float) -> None:
        """Process bytes received at `now_s`."""
        if self.first_s is None:
            self.first_s = now_s
        # The end of the stream (usage, DONE) is not a token; it comes with the last token or right after it.
        if b'"choices": [{' in part or b'"choices":[{' in part:
            self.last_s = now_s
        self._tail = (self._tail + part)[-2000:]

    @property
    def tokens(self) -> int:
        """Tokens according to the server's usage; 0 if the stream was cut off."""
        usage = self._json_after(b'"usage": {') or self._json_after(b'"usage":{')
        return int(usage.get("completion_tokens", 0)) if usage else 0

    def error(self) -> str:
        """Why the stream is incomplete; empty if it is complete."""
        if b'data: {"error"' in self._tail:
            return "error event"
        return "" if DONE in self._tail else "broken off"

    def _json_after(self, mark: bytes) -> dict[str, int] | None:
        at = self._tail.rfind(mark)
        if at < 0:
            return None
        begin = at + len(mark) - 1
        end = self._tail.find(b"}", begin)
        return dict(json.loads(self._tail[begin : end + 1])) if end > 0 else None


def _body(arrival: Arrival, model: str, chance: random.Random) -> bytes:
    ids = chance.choices(range(*IDS), k=arrival.prompt_tokens)
    return json.dumps(
        {
            "model": model,
            "prompt": ids,
            "max_tokens": arrival.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
