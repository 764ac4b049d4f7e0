"""
Probes of a container, actually called.

In:    a probe as the pod spec has it.
Out:   whether it passed, and when it has passed or failed often enough.
Rules: periods and delays pass at the sandbox's pace like start-ups do; a call's time limit is real time.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import aiohttp

from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.addresses import listening

# However fast time passes, a probe is not called more often than this.
PERIOD_S_LEAST = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    One probe.

    Args:
        url: What is asked; None for exec and gRPC probes, which pass.
        delay_s, period_s: At the sandbox's pace.
        timeout_s: Real time.
        successes, failures: How many in a row count.
    """

    url: str | None
    delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int

    async def call(self, session: aiohttp.ClientSession) -> bool:
        """Ask once."""
        if self.url is None:
            return True
        try:
            async with session.get(self.url, timeout=aiohttp.ClientTimeout(total=self.timeout_s)) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def verdicts(self, session: aiohttp.ClientSession) -> AsyncGenerator[bool, None]:
        """True each time it has passed `successes` times in a row, False each time it has failed `failures` times."""
        await asyncio.sleep(self.delay_s)
        passed = failed = 0
        while True:
            if await self.call(session):
                passed, failed = passed + 1, 0
            else:
                passed, failed = 0, failed + 1
            if passed >= self.successes:
                yield True
            elif failed >= self.failures:
                yield False
            await asyncio.sleep(self.period_s)


def probe_of(container: Object, kind: str, *, address: str | None, pace: float) -> Probe | None:
    """The container's probe of that kind (`startupProbe`, ...) at a pod address (None: there is no port to ask)."""
    spec = container.get(kind)
    if not spec:
        return None
    return Probe(
        url=_url(spec, container, address) if address is not None else None,
        delay_s=float(spec.get("initialDelaySeconds") or 0) / pace,
        period_s=max(PERIOD_S_LEAST, float(spec.get("periodSeconds") or 10) / pace),
        timeout_s=float(spec.get("timeoutSeconds") or 1),
        successes=int(spec.get("successThreshold") or 1),
        failures=int(spec.get("failureThreshold") or 3),
    )


def _url(spec: Object, container: Object, address: str) -> str | None:
    action = spec.get("httpGet") or spec.get("tcpSocket")
    if not action:
        return None
    port = named_port(container, action["port"])
    path = str(action.get("path") or "/").lstrip("/")
    return f"http://{listening(address)}:{port}/{path}"


def named_port(container: Object, port: object) -> int:
    """A port number; names are those of the container's ports."""
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    return int(str(port))
