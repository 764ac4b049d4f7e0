"""
The connection to the API server: raw JSON over one aiohttp session, with the credentials of `kubernetes.aio`.

In:    a kubeconfig or the pod's service account.
Out:   `KubeApi`: answers and watch events as plain JSON; `ApiError` for everything else.
Rules: each call ends within its timeout; nothing is retried here (only callers know whether repeating is safe).

Typed models cost ten times the time and memory of plain JSON, so the client's own methods are not used.
"""

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, KubeConfigLoader, KubeConfigMerger
from yaml import YAMLError

from tidegate.errors import SpecError
from tidegate.ports import ApiError, Call
from tidegate.runtime.answers import decoded

CONNECT_S = 5.0
# A line of a watch may be twice as long as this. etcd's largest object has 1.5 MiB, and JSON encodes `<` in six bytes.
READ_BYTES = 5 * 2**20
# Where a pod finds the name of its namespace.
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def load_configuration(kubeconfig: str | None, context: str | None = None) -> Configuration:
    """
    Address and credentials of the API server: from the given kubeconfig, else the pod's service account, else the
    default kubeconfig. A context means a kubeconfig.

    Raises:
        SpecError: none of them can be used.
    """
    configuration = Configuration()
    with _usable(kubeconfig):
        if kubeconfig is not None or context is not None:
            await _from_file(kubeconfig, context, configuration)
        else:
            try:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            except ConfigException:
                await _from_file(None, None, configuration)
        _ssl_context(configuration)
    return configuration


def default_namespace(kubeconfig: str | None, context: str | None = None) -> str:
    """
    Namespace of a name without one, as kubectl chooses it: that of the context, in a pod its own, else `default`.

    Raises:
        SpecError: no kubeconfig can be read, or it has no such context.
    """
    if kubeconfig is None and context is None and POD_NAMESPACE.exists():
        return POD_NAMESPACE.read_text().strip()
    with _usable(kubeconfig):
        merged = KubeConfigMerger(kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION)  # type: ignore[no-untyped-call]
        loader = KubeConfigLoader(config_dict=merged.config, active_context=context)  # type: ignore[no-untyped-call]
        return str(loader.current_context["context"].get("namespace") or "default")


@contextmanager
def _usable(kubeconfig: str | None) -> Iterator[None]:
    """Raise a SpecError if the credentials cannot be used."""
    try:
        yield
    except (ConfigException, YAMLError, OSError, TypeError, ValueError) as error:
        raise SpecError(
            field="kubeconfig",
            value=kubeconfig,
            allowed=f"no usable kubeconfig or pod service account: {error}",
        ) from error


async def _from_file(name: str | None, context: str | None, configuration: Configuration) -> None:
    await load_kube_config(name, context, client_configuration=configuration)  # type: ignore[no-untyped-call]


def _ssl_context(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=configuration.ssl_ca_cert, cadata=getattr(configuration, "ca_cert_data", None)
    )
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def open_session(configuration: Configuration, **more: Any) -> aiohttp.ClientSession:
    """A session for the API server, without its token; `more` are further arguments of aiohttp's session."""
    context = _ssl_context(configuration) if configuration.host.startswith("https") else False
    connector = aiohttp.TCPConnector(ssl=context, limit=64)
    return aiohttp.ClientSession(connector=connector, trust_env=True, read_bufsize=READ_BYTES, **more)


class HttpKubeApi:
    """
    Implements `KubeApi`. Use as an async context manager.

    Args:
        configuration: From `load_configuration`.
        counted: Called with (method, status) after each request; status 0: no answer.
    """

    def __init__(
        self, configuration: Configuration, *, counted: Callable[[str, int], None] = lambda _method, _status: None
    ) -> None:
        self._configuration, self._counted = configuration, counted
        self._host = configuration.host.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._answered_s = -math.inf

    def answered_within(self, seconds: float) -> bool:
        """True if the server answered in the last `seconds`. That it is overloaded or away (429, 5xx) is no answer."""
        return time.monotonic() - self._answered_s <= seconds

    async def __aenter__(self) -> "HttpKubeApi":
        self._session = open_session(self._configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, call: Call) -> dict[str, Any]:
        """The answer to one request, within `call.timeout_s`."""
        try:
            async with asyncio.timeout(call.timeout_s), await self._open(call, sock_read_s=call.timeout_s) as response:
                body = await response.read()
        except TimeoutError as error:
            raise self._no_answer(call, "Timeout", f"no answer within {call.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._no_answer(call, "Unreachable", str(error) or type(error).__name__) from error
        return _decoded(call, response, body)

    async def watch(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        """Events until the server ends the stream; reason `Silence` if nothing arrives for `call.timeout_s`."""
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                opened = await self._open(call, sock_read_s=call.timeout_s)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._no_answer(call, "Unreachable", str(error) or "no answer to a watch") from error
        try:
            async with opened as response:
                if response.status != 200:
                    _decoded(call, response, await response.read())
                async for line in response.content:
                    yield _event(call, line)
        except TimeoutError as error:
            raise self._no_answer(call, "Silence", f"no data for {call.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._no_answer(call, "Unreachable", str(error) or type(error).__name__) from error

    async def _open(self, call: Call, *, sock_read_s: float) -> aiohttp.ClientResponse:
        assert self._session is not None, "used outside of its context"
        headers = {"Accept": call.accept, "User-Agent": "tidegate"}
        token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        data = None
        if call.body is not None:
            headers["Content-Type"] = call.content_type
            data = msgspec.json.encode(call.body)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=sock_read_s)
        response = await self._session.request(
            call.method, self._host + call.path, params=dict(call.params), data=data, headers=headers, timeout=timeout
        )
        if response.status < 500 and response.status != 429:
            self._answered_s = time.monotonic()
        self._counted(call.method, response.status)
        return response

    def _no_answer(self, call: Call, reason: str, detail: str) -> ApiError:
        if reason != "Silence":
            self._counted(call.method, 0)
        return ApiError(status=0, reason=reason, detail=f"{call.method} {call.path}: {detail}")


def _event(call: Call, line: bytes) -> dict[str, Any]:
    try:
        event = decoded(line)
    except msgspec.DecodeError as error:
        raise ApiError(status=0, reason="NotJson", detail=f"watch {call.path}: a truncated line") from error
    if not isinstance(event, dict):
        raise ApiError(status=0, reason="NotJson", detail=f"watch {call.path}: not an event")
    return event


def _decoded(call: Call, response: aiohttp.ClientResponse, body: bytes) -> dict[str, Any]:
    answer: object = None
    with suppress(msgspec.DecodeError):
        answer = decoded(body)
    if response.status >= 300:
        known = answer if isinstance(answer, dict) else {}
        text = known.get("message") or body[:200].decode(errors="replace")
        raise ApiError(
            status=response.status,
            reason=known.get("reason") or response.reason or "Error",
            detail=f"{call.method} {call.path}: {text}",
            retry_after_s=_seconds(response.headers.get("Retry-After")),
        )
    if not isinstance(answer, dict):
        raise ApiError(status=0, reason="NotJson", detail=f"{call.method} {call.path}: the answer is not JSON")
    return answer


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
