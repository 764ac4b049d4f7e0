"""
Learned memory survives restarts, in ConfigMaps.

In:    the fleet's memory.
Out:   ConfigMaps `tidegate-memory-NN` in the operator's namespace; at start, the memory they hold.
Rules: written by the leader only, at most once per interval and shard, and only if something changed. An unreadable
       part is dropped alone. Deployments are spread over a fixed number of shards by a hash of their name: 16 MiB hold
       about ten thousand of them.
"""

import asyncio
import base64
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tidegate.domain.key import Key
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.ports import APPLY_PATCH, FIELD_MANAGER, ApiError, Call, KubeApi

log = logging.getLogger(__name__)

SHARDS = 16
ENTRY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Memory of one deployment; `uid` is that of the object it belongs to."""

    memory: DeploymentMemory
    uid: str


@dataclass(slots=True)
class Keeper:
    """
    Loads and saves memory.

    Args:
        api: Fenced connection (reads pass on every replica).
        namespace: Of the ConfigMaps.
        name: Common prefix of their names; differs between shards of the operator.
    """

    api: KubeApi
    namespace: str
    name: str = "tidegate-memory"
    _saved: dict[int, bytes] = field(default_factory=dict)

    def _path(self, shard: int) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps/{self.name}-{shard:02d}"

    async def load(self) -> dict[Key, Saved]:
        """
        Everything that was saved, whether or not the deployments still exist.

        Raises:
            ApiError: the server did not answer. A missing or damaged ConfigMap is no error.
        """
        memory: dict[Key, Saved] = {}
        for shard in range(SHARDS):
            try:
                stored = await self.api.send(Call(method="GET", path=self._path(shard)))
            except ApiError as error:
                if error.status != 404:
                    raise
                continue
            packed = _packed(stored)
            self._saved[shard] = packed
            memory |= unpack(packed)
        return memory

    async def save(self, memory: FleetMemory, uids: Mapping[Key, str]) -> int:
        """
        Save what differs from what is stored.

        Args:
            memory: Of the fleet.
            uids: Existing deployments, and the uid of the object each memory belongs to. Others are left out and so
                forgotten.

        Returns:
            Total bytes stored.

        Raises:
            ApiError: the first refusal; the other shards are stored nevertheless.
        """
        packed = [pack(parts) for parts in _spread(memory, uids)]
        changed = [shard for shard, each in enumerate(packed) if each != self._saved.get(shard, pack({}))]
        # All at once, because at a stop there is little time.
        refusals = await asyncio.gather(*(self._store(shard, packed[shard]) for shard in changed))
        if refusal := next(filter(None, refusals), None):
            raise refusal
        return sum(map(len, packed))

    async def _store(self, shard: int, packed: bytes) -> ApiError | None:
        """Store one shard; returns why the server refused it, or None."""
        try:
            await self.api.send(self._apply(shard, packed))
        except ApiError as refusal:
            return refusal
        self._saved[shard] = packed
        return None

    def _apply(self, shard: int, packed: bytes) -> Call:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{self.name}-{shard:02d}",
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": "tidegate"},
            },
            "binaryData": {ENTRY: base64.b64encode(packed).decode()},
        }
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return Call(method="PATCH", path=self._path(shard), params=params, body=body, content_type=APPLY_PATCH)


def shard_of(key: Key) -> int:
    """Shard of a deployment; the same in every process."""
    return zlib.crc32(str(key).encode()) % SHARDS


def _spread(memory: FleetMemory, uids: Mapping[Key, str]) -> list[dict[str, object]]:
    shards: list[dict[str, object]] = [{} for _ in range(SHARDS)]
    for key in sorted(uids):
        part = memory.deployments.get(key)
        if part is not None:
            shards[shard_of(key)][str(key)] = {"uid": uids[key], **part.to_json()}
    return shards


def pack(parts: dict[str, object]) -> bytes:
    """Parts by key, as stored; equal parts give equal bytes."""
    return zlib.compress(msgspec.json.encode(parts), 6)


def unpack(packed: bytes) -> dict[Key, Saved]:
    """The inverse of `pack`; empty if it cannot be read."""
    try:
        parts = msgspec.json.decode(zlib.decompress(packed), type=dict[str, dict[str, Any]])
    except (zlib.error, msgspec.DecodeError):
        if packed:
            log.warning("cannot read the saved memory: starting without it")
        return {}
    return {
        Key.parse(name): Saved(memory=DeploymentMemory.from_json(part), uid=str(part.get("uid", "")))
        for name, part in parts.items()
    }


def _packed(stored: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode((stored.get("binaryData") or {}).get(ENTRY, ""))
    except ValueError:
        return b""
