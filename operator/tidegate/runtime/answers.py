"""
Answers of the API server, however deeply a user nested what they contain.

In:    the text of an answer, or of one event of a watch.
Out:   the same without what is nested too deeply, which is null.
Rules: a pod template may be nested ten thousand levels deep, but no decoder of Python's reads that: without this, one
       such object would end every list and watch that contains it, and nobody's deployments would be seen any more.
"""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

# Levels that are kept. Nothing that is read, and no spec that is accepted, is nested half as deeply.
LEVELS_MOST = 128
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[][{}]')  # a text that was cut off may end in a string


def shallow(text: bytes) -> bytes:
    """JSON with null in place of each list and mapping that is nested too deeply."""
    kept, level, begin = bytearray(), 0, 0
    for mark in _MARKS.finditer(text):
        if mark[0] in b"[{":
            level += 1
            if level == LEVELS_MOST + 1:
                kept += text[begin : mark.start()] + b"null"
        elif mark[0] in b"]}":
            if level == LEVELS_MOST + 1:
                begin = mark.end()
            level -= 1
    return bytes(kept if level > LEVELS_MOST else kept + text[begin:])


def decoded(text: bytes) -> Any:
    """
    Plain JSON.

    Raises:
        msgspec.DecodeError: it is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        return msgspec.json.decode(shallow(text))


class Answer(aiohttp.ClientResponse):
    """An answer that kopf reads: `json` if it is a list, line by line if it is a watch."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """As in aiohttp."""
        await super().start(connection)
        if "watch" in self.url.query:
            self.content = _Lines(self.content)  # type: ignore[assignment]
        return self

    async def json(self, **_: Any) -> Any:
        """As in aiohttp."""
        return await super().json(loads=_loaded)


class _Lines:
    """The stream of a watch. Its chunks are lines that can be decoded."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, _bytes: int) -> AsyncIterator[bytes]:
        """One line after the other."""
        async for line in self._content:
            yield _readable(line)


def _readable(line: bytes) -> bytes:
    """The line, without what is nested too deeply if it cannot be decoded with it."""
    try:
        json.loads(line)
    except RecursionError:
        return shallow(line)
    except ValueError:
        pass  # kopf meets the same error
    return line


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(shallow(text.encode()))
