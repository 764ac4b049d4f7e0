"""
The client: every failure of the server is one kind of error with one reason, in time; and what the client sends.
"""

import asyncio
import base64
import socket
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.observe.fake_prometheus import FAILURES, Handler, always, one, serving, vector
from tidegate.errors import SourceError
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.observe.threads import in_thread


async def ask(url: str, query: str = "up", *, timeout_s: float = 0.5, **access: Any) -> Any:
    client = Prometheus(Access(url=url, **access), timeout_s=timeout_s)
    try:
        return await in_thread(lambda: client.custom_query(query, params={"time": "12.500"}))
    finally:
        client.close()


@pytest.mark.parametrize(("handler", "reason"), FAILURES.values(), ids=FAILURES.keys())
async def test_each_failure_is_one_error_with_one_reason(handler: Handler, reason: str) -> None:
    async with serving(handler) as server:
        began_s = time.monotonic()
        with pytest.raises(SourceError) as caught:
            await ask(server.url)
    assert caught.value.reason == reason
    assert caught.value.source == "prometheus"
    assert time.monotonic() - began_s < 3.0
    assert len(server.asked) == 1, "nothing is retried"


async def test_a_refused_connection_is_an_error_too() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SourceError) as caught:
        await ask(f"http://127.0.0.1:{port}")
    assert caught.value.reason == "Unreachable"
    assert (
        caught.value.detail == f"127.0.0.1:{port}: Failed to establish a new connection: [Errno 111] Connection refused"
    )


async def test_https_to_a_plain_server_is_reported_as_tls() -> None:
    async with serving(always(vector)) as server:
        with pytest.raises(SourceError) as caught:
            await ask(server.url.replace("http:", "https:"))
    assert caught.value.reason in {"Tls", "Unreachable"}


async def test_the_whole_query_and_its_time_are_in_the_body() -> None:
    query = "sum(up) or " * 2000 + "vector(1)"
    async with serving(always(lambda: vector(one(1, a="b")))) as server:
        assert await ask(server.url, query) == [one(1, a="b")]
    assert server.query_string == ""
    assert server.asked == [{"query": query, "time": "12.500", "timeout": "0.5s"}]


@pytest.mark.parametrize("prefix", ["", "/", "/prometheus", "/select/0/prometheus/"])
async def test_a_prefix_of_the_server_is_kept(prefix: str) -> None:
    async with serving(always(vector)) as server:
        await ask(server.url + prefix)
    assert server.path == prefix.rstrip("/") + "/api/v1/query"


async def test_a_token_is_read_again_for_each_query(tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with serving(always(vector)) as server:
        for text in ("first\n", "second\n"):
            token.write_text(text)
            await ask(server.url, token_file=token, headers={"X-Scope-OrgID": "team"})
            assert server.headers["Authorization"] == f"Bearer {text.strip()}"
    assert server.headers["X-Scope-OrgID"] == "team"


async def test_an_unreadable_token_has_its_own_reason(tmp_path: Path) -> None:
    async with serving(always(vector)) as server:
        with pytest.raises(SourceError) as caught:
            await ask(server.url, token_file=tmp_path / "absent")
    assert caught.value.reason == "CredentialUnreadable"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"hush-1\nhush-2\n", id="two lines"),
        pytest.param("hush-\u0142".encode(), id="letters that no header may hold"),
        pytest.param(b"hush-\xff", id="bytes that are no text"),
        pytest.param(b"\xef\xbb\xbfhush", id="a byte order mark"),
        pytest.param(b"\n", id="nothing"),
    ],
)
async def test_a_file_without_a_token_is_named_but_its_content_is_not_shown(tmp_path: Path, content: bytes) -> None:
    token = tmp_path / "token"
    token.write_bytes(content)
    async with serving(always(vector)) as server:
        with pytest.raises(SourceError) as caught:
            await ask(server.url, token_file=token)
    assert caught.value.reason == "CredentialUnreadable"
    assert str(token) in caught.value.detail
    assert "hush" not in "".join(traceback.format_exception(caught.value))
    assert server.asked == []


@pytest.mark.parametrize("value", ["hush\nX-Other: a", "hush \u0142"])
async def test_a_header_that_cannot_be_sent_is_not_shown(value: str) -> None:
    async with serving(always(vector)) as server:
        with pytest.raises(SourceError) as caught:
            await ask(server.url, headers={"X-Key": value})
    assert caught.value.reason == "BadHeader"
    assert "hush" not in "".join(traceback.format_exception(caught.value))
    assert "hush" not in repr(Access(url="", headers={"X-Key": value}))


async def test_a_password_may_contain_any_character(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_bytes("\u0142\u00f3d\u017a\n".encode())
    async with serving(always(vector)) as server:
        await ask(server.url, user="me", password_file=password)
    assert base64.b64decode(server.headers["Authorization"].removeprefix("Basic ")).decode() == "me:\u0142\u00f3d\u017a"


async def test_basic_authentication(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    async with serving(always(vector)) as server:
        await ask(server.url, user="me", password_file=password)
    assert server.headers["Authorization"] == "Basic bWU6c2VjcmV0"


async def test_netrc_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(always(vector)) as server:
        await ask(server.url)
    assert "Authorization" not in server.headers


@pytest.mark.parametrize(
    "note",
    [
        pytest.param("PromQL info: metric might not be a counter", id="a hint"),
        pytest.param("PromQL warning: encountered a mix of histograms and floats for aggregation", id="odd series"),
    ],
)
async def test_an_annotation_on_single_series_does_not_mean_partial_data(note: str) -> None:
    async with serving(always(lambda: vector(one(1), warnings=[note], infos=[note]))) as server:
        assert await ask(server.url) == [one(1)]


async def test_a_range_is_asked_to_the_millisecond() -> None:
    body = {"status": "success", "data": {"resultType": "matrix", "result": []}}
    async with serving(always(lambda: web.json_response(body))) as server:
        client = Prometheus(Access(url=server.url))
        assert await in_thread(lambda: client.custom_query_range("up", 0.25, 60.5, "15s")) == []
        client.close()
    assert {k: server.asked[0][k] for k in ("start", "end", "step")} == {
        "start": "0.250",
        "end": "60.500",
        "step": "15s",
    }


async def test_an_abandoned_thread_does_not_delay_the_exit() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(lambda: time.sleep(0.3))
    await asyncio.sleep(0.4)  # its late result finds nobody, and says nothing
