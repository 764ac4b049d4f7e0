"""
The real control plane: the flags of its four programs, and when it is ready.

In:    paths of the programs.
Out:   `RealControlPlane`, an async context manager with the same interface as the embedded one.
Rules: loopback only, free ports, its own folder. etcd does not sync to disk, because nothing has to survive a crash.
"""

import asyncio
import secrets
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tidegate.errors import SourceError
from tidegate.sandbox.binaries import CONTROL_PLANE, Found
from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.control_plane.processes import Processes, working_folder

HOST = "127.0.0.1"
READY_S = 60.0
SERVICE_RANGE = "10.96.0.0/16"
POLL_S = 0.1


class RealControlPlane:
    """
    etcd, kube-apiserver, kube-controller-manager and kube-scheduler, started on entry and stopped on exit.

    Args:
        programs: The four programs, from `binaries.provide`.
        parent: Where its folder is created; None: the system's temporary folder.
    """

    kind = "kubernetes"

    def __init__(self, programs: Mapping[str, Found], *, parent: Path | None = None) -> None:
        self._programs = {name: str(programs[name].path) for name in CONTROL_PLANE}
        self._parent = parent
        self._ports = dict(zip(("etcd", "peer", "api"), free_ports(3), strict=True))
        self._token = secrets.token_urlsafe(24)
        self.url = f"https://{HOST}:{self._ports['api']}"

    @property
    def admin(self) -> Account:
        """An account with all permissions."""
        return Account(url=self.url, ca_file=self.folder / "certificates" / "apiserver.crt", token=self._token)

    async def __aenter__(self) -> Self:
        self.folder = working_folder(self._parent)
        self.processes = Processes(self.folder / "logs")
        try:
            await self._start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.stop(grace_s=0.0)  # no data is kept, so nothing needs to be flushed
        shutil.rmtree(self.folder, ignore_errors=True)

    async def service_account(self, namespace: str, name: str) -> Account:
        """
        An account with a token of an existing service account, from the TokenRequest API.

        Raises:
            SourceError: The API server rejects the request.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86400},
        }
        async with self.admin.session() as session, session.post(path, json=request) as answer:
            body = await answer.json()
            if answer.status >= 400:
                raise SourceError(source="kubernetes", reason="Refused", detail=body.get("message", str(answer.status)))
        return Account(url=self.url, ca_file=self.admin.ca_file, token=body["status"]["token"], namespace=namespace)

    async def _start(self) -> None:
        """Starts etcd and the API server, and the other two once the API server is ready."""
        self._write_secrets()
        self.processes.start("etcd", [self._programs["etcd"], *self._etcd_flags()])
        self.processes.start("kube-apiserver", [self._programs["kube-apiserver"], *self._apiserver_flags()])
        await self._until_ready()
        kubeconfig = self.admin.write_kubeconfig(self.folder / "admin.kubeconfig")
        for name, flags in (
            ("kube-controller-manager", self._manager_flags()),
            ("kube-scheduler", []),
        ):
            common = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", f"--bind-address={HOST}", "--secure-port=0"]
            self.processes.start(name, [self._programs[name], *common, *flags])
        await self._until_usable()

    def _write_secrets(self) -> None:
        """Writes the key that signs service account tokens, and the admin's token."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        for name, content in (
            ("accounts.key", pem),
            ("tokens.csv", f'{self._token},admin,admin,"system:masters"\n'.encode()),
        ):
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    def _etcd_flags(self) -> list[str]:
        client, peer = (f"http://{HOST}:{self._ports[name]}" for name in ("etcd", "peer"))
        return [
            *(f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
            ),
        ]

    def _apiserver_flags(self) -> list[str]:
        key = self.folder / "accounts.key"
        return [
            f"--etcd-servers=http://{HOST}:{self._ports['etcd']}",
            *(f"--bind-address={HOST}", f"--advertise-address={HOST}", f"--secure-port={self._ports['api']}"),
            f"--cert-dir={self.folder / 'certificates'}",  # the API server creates its own certificate there
            *(f"--service-account-issuer={self.url}", f"--service-account-key-file={key}"),
            f"--service-account-signing-key-file={key}",
            *("--authorization-mode=RBAC", f"--token-auth-file={self.folder / 'tokens.csv'}", "--anonymous-auth=false"),
            *(f"--service-cluster-ip-range={SERVICE_RANGE}", "--endpoint-reconciler-type=none", "--profiling=false"),
        ]

    def _manager_flags(self) -> list[str]:
        return [f"--service-account-private-key-file={self.folder / 'accounts.key'}"]

    async def _until_ready(self) -> None:
        """Waits until the API server reports that it is ready."""

        async def ready() -> bool:
            if not (self.folder / "certificates" / "apiserver.crt").exists():
                return False
            async with self.admin.session() as session, session.get("/readyz") as answer:
                return answer.status == 200

        await self._wait(ready, what="the API server")

    async def _until_usable(self) -> None:
        """Waits until pods can be created, that is until the default service account exists."""

        async def usable() -> bool:
            path = "/api/v1/namespaces/default/serviceaccounts/default"
            async with self.admin.session() as session, session.get(path) as answer:
                return answer.status == 200

        await self._wait(usable, what="the controller manager")

    async def _wait(self, condition: Callable[[], Awaitable[bool]], *, what: str) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            if dead := self.processes.dead():
                name, why = next(iter(dead.items()))
                raise SourceError(source=name, reason="Died", detail=why)
            try:
                if await condition():
                    return
            except aiohttp.ClientError:
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise SourceError(source=what, reason="NotReady", detail=f"not ready after {READY_S:.0f} s")
            await asyncio.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Ports that are free now. All are held until the last one is found, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
