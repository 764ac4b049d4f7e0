"""
Probes of a container, which are really called.

In:    a probe of a pod spec.
Out:   whether it passed, and when it has passed or failed often enough.
Rules: periods and delays are divided by the sandbox's pace, like start-ups; the timeout of a call is real time.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import aiohttp

from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.addresses import listening

# Shortest period of a probe, s, at any pace.
PERIOD_S_LEAST = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    One probe.

    Args:
        url: What is requested; None for exec and gRPC probes, which always pass.
        delay_s, period_s: At the sandbox's pace, s.
        timeout_s: Real time, s.
        successes, failures: Thresholds: how many in a row count.
    """

    url: str | None
    delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int

    async def call(self, session: aiohttp.ClientSession) -> bool:
        """Call it once; whether it passed."""
        if self.url is None:
            return True
        try:
            async with session.get(self.url, timeout=aiohttp.ClientTimeout(total=self.timeout_s)) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def verdicts(self, session: aiohttp.ClientSession) -> AsyncGenerator[bool, None]:
        """Yield True after `successes` passes in a row, False after `failures` failures in a row, repeatedly."""
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
    """The container's probe of that kind (`startupProbe`, ...); with `address` None nothing listens and it passes."""
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
    """The number of a port that is given as a number or as a name of the container's ports."""
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    return int(str(port))
