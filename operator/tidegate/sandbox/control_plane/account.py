"""
What a client needs to speak to an API server: the address, whom to trust, who it is.

In:    URL, CA, token.
Out:   the same as a kubeconfig file and as an aiohttp session.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

CLIENT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    One identity at one API server.

    Args:
        url: Address of the API server.
        ca_file: Certificate to trust; None for plain HTTP.
        token: Bearer token.
        namespace: Where commands act unless told otherwise.
    """

    url: str
    ca_file: Path | None
    token: str
    namespace: str = "default"

    def kubeconfig(self) -> str:
        """The account as a kubeconfig document."""
        cluster = {"server": self.url}
        if self.ca_file is not None:
            cluster["certificate-authority"] = str(self.ca_file)
        context = {"cluster": "sandbox", "user": "sandbox", "namespace": self.namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": cluster}],
            "users": [{"name": "sandbox", "user": {"token": self.token}}],
            "contexts": [{"name": "sandbox", "context": context}],
            "current-context": "sandbox",
        }
        return str(yaml.safe_dump(document, sort_keys=False))

    def write_kubeconfig(self, path: Path) -> Path:
        """Writes the kubeconfig, readable by its owner only; returns its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(self.kubeconfig())
        return path

    def session(self) -> aiohttp.ClientSession:
        """A client session that is this account; paths are relative to the API server."""
        context = ssl.create_default_context(cafile=str(self.ca_file)) if self.ca_file else None
        connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
        return aiohttp.ClientSession(
            base_url=self.url,
            connector=connector,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_S),
        )
