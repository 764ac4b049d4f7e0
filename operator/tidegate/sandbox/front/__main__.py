"""
`python -m tidegate.sandbox.front FILE`: front ends in a separate process, until SIGTERM.

FILE is JSON: `url`, `ca_file`, `token` of the API server; `policy`; `services`, a list of `namespace`, `name` and
`port` (on which the front end of that Service listens on 127.0.0.1); `metrics_port`. `/metrics` on that port shows
queued connections by Service, like a gateway, which is the only signal while no replica runs. The same port serves
Prometheus' HTTP service discovery.
"""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.discovery import Discovery
from tidegate.sandbox.front.balance import Backends, Policy, backends_in
from tidegate.sandbox.front.proxy import Front
from tidegate.sandbox.kube import Kube

HOST = "127.0.0.1"


async def follow(kube: Kube, namespace: str, service: str, backends: Backends) -> None:
    """Keep the replicas of a Service up to date, endlessly."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    async for change in kube.follow(path, labelSelector=f"kubernetes.io/service-name={service}"):
        found = frozenset() if change.gone else backends_in(change.object)
        backends.update(str(change.object["metadata"]["name"]), found)


async def serve(config: dict[str, Any]) -> None:
    """Run the configured front ends until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    waiting: dict[str, Backends] = {}
    async with Account.from_json(config).session() as session, asyncio.TaskGroup() as tasks:
        follows = []
        for service in config["services"]:
            backends = waiting[f"{service['namespace']}/{service['name']}"] = Backends(Policy(config["policy"]))
            follows.append(tasks.create_task(follow(Kube(session), service["namespace"], service["name"], backends)))
            await Front(backends).start(HOST, service["port"])
        discovery = Discovery(Kube(session))
        follows.append(tasks.create_task(discovery.run()))
        runner = await _metrics(waiting, discovery, config["metrics_port"])
        await stop.wait()
        for task in follows:
            task.cancel()
        await runner.cleanup()


async def _metrics(waiting: dict[str, Backends], discovery: Discovery, port: int) -> web.AppRunner:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(_registry(waiting)), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    discovery.add_routes(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    return runner


def _registry(waiting: dict[str, Backends]) -> CollectorRegistry:
    registry = CollectorRegistry()
    labels = ["exported_namespace", "service"]
    queued = Gauge("front_queued_requests", "Connections that wait for a replica.", labels, registry=registry)
    taken = Counter("front_requests", "Connections taken.", labels, registry=registry)
    for name, backends in waiting.items():
        queued.labels(*name.split("/")).set(backends.queued)
        taken.labels(*name.split("/")).inc(backends.taken)
    return registry


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
