"""
What a client needs to access an API server: address, trusted certificate, token.

In:    URL, CA, token.
Out:   the same as a kubeconfig file, as an aiohttp session, and as plain values for another process.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
        namespace: Default namespace.
    """

    url: str
    ca_file: Path | None
    token: str
    namespace: str = "default"

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; other fields are ignored."""
        ca_file = Path(fields["ca_file"]) if fields["ca_file"] else None
        return cls(url=fields["url"], ca_file=ca_file, token=fields["token"])

    def to_json(self) -> dict[str, str | None]:
        """The account for another process: `url`, `ca_file` and `token`."""
        ca_file = str(self.ca_file) if self.ca_file is not None else None
        return {"url": self.url, "ca_file": ca_file, "token": self.token}

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
        """A client session with this account's credentials; paths are relative to the API server."""
        context = ssl.create_default_context(cafile=str(self.ca_file)) if self.ca_file else None
        connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
        return aiohttp.ClientSession(
            base_url=self.url,
            connector=connector,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_S),
        )
