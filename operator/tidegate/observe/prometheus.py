"""
Client of one Prometheus-compatible server: one instant, no retries, one kind of error.

In:    address and credentials.
Out:   vectors and matrices; `SourceError` with a reason for everything else.
Rules: blocking (see `threads`); each call ends within its timeout, however slowly the bytes arrive.

A subclass of `prometheus_api_client.PrometheusConnect`, which has no time limit, retries a dead server for 14 s,
sends a POSTed query in the URL, hides the warnings of a partial answer and fails in four unrelated ways.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
from prometheus_api_client import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from requests.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from tidegate.errors import SourceError
from tidegate.observe.decode import Series
from tidegate.settings import PrometheusSettings

SOURCE = "prometheus"
CONNECT_S, READ_S = 1.0, 4.0
ANSWER_BYTES_MAX = 256 * 2**20
_TOKEN = re.compile(rb"[!-~]+")
# Prefixes of Prometheus' annotations on single series. One team's odd series must not make all answers count as
# partial.
_NOTES = ("PromQL info", "PromQL warning")
# 422 is a query that is valid but fails when it is run.
_REASONS = {401: "Unauthorized", 403: "Unauthorized", 404: "NotFound", 422: "QueryFailed", 429: "Throttled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """
    How to reach the server.

    Args:
        url: Base URL with the server's prefix if it has one (`/prometheus`, `/select/0/prometheus`).
        token_file: File with a bearer token, read again for each query (tokens rotate); None: none.
        user, password_file: Basic authentication; user empty: none.
        headers: Sent with each query, e.g. `{"X-Scope-OrgID": "team"}`. Never shown, since a value may be a secret.
        ca_file: Certificates to trust in place of the system's; None: the system's.
        verify: False accepts any certificate.
    """

    url: str
    token_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    verify: bool = True

    @classmethod
    def of(cls, settings: PrometheusSettings) -> "Access":
        """What these settings say."""

        def path(text: str) -> Path | None:
            return Path(text) if text else None

        return cls(
            url=settings.prometheus_url,
            token_file=path(settings.prometheus_token_file),
            user=settings.prometheus_user,
            password_file=path(settings.prometheus_password_file),
            headers=settings.headers,
            ca_file=path(settings.prometheus_ca_file),
            verify=not settings.prometheus_insecure,
        )


class _Credentials(AuthBase):
    """Adds the current credentials to a request; also keeps `requests` from reading ~/.netrc."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        access = self._access
        if access.token_file is not None:
            token = _secret(access.token_file)
            if not _TOKEN.fullmatch(token):
                raise _failure(
                    "CredentialUnreadable", f"{access.token_file}: must hold one line of ASCII without blanks"
                )
            request.headers["Authorization"] = f"Bearer {token.decode()}"
        elif access.user:
            password = _secret(access.password_file) if access.password_file is not None else b""
            HTTPBasicAuth(access.user.encode(), password)(request)
        return request


def _secret(path: Path) -> bytes:
    """Content of a file without surrounding whitespace. As bytes, because a decoding error would contain the secret."""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise _failure("CredentialUnreadable", f"{path}: {error.strerror or error}") from error


def _failure(reason: str, detail: str) -> SourceError:
    return SourceError(source=SOURCE, reason=reason, detail=detail)


class Prometheus(PrometheusConnect):  # type: ignore[misc]
    """
    The client.

    Args:
        access: Address and credentials.
        timeout_s: Seconds for a whole answer; connecting takes at most `CONNECT_S` of them.
    """

    def __init__(self, access: Access, *, timeout_s: float = READ_S) -> None:
        self._access = access
        self._timeout_s = timeout_s
        session = requests.Session()
        session.verify = str(access.ca_file) if access.ca_file and access.verify else access.verify
        super().__init__(
            url=access.url.rstrip("/"),
            headers=dict(access.headers),
            auth=_Credentials(access),
            session=session,
            retry=Retry(total=0, redirect=0, raise_on_status=False),
            timeout=(CONNECT_S, timeout_s),
            method="POST",
        )

    def custom_query(
        self, query: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> list[Series]:
        """
        The instant vector of a query.

        Args:
            query: PromQL.
            params: `time` (unix seconds) and other parameters of the API.
            timeout: Seconds, instead of the client's own.

        Raises:
            SourceError: for any failure; `reason` is one word.
        """
        data = self._ask("query", {**(params or {}), "query": query}, timeout)
        if data.get("resultType") != "vector":
            raise _failure("Malformed", f"expected a vector, got a {data.get('resultType')}")
        return _series(data)

    def custom_query_range(
        self,
        query: str,
        start_time: float,
        end_time: float,
        step: str,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> list[Series]:
        """The matrix of a query from start to end (unix seconds), one point per `step` (`300s`). Raises as above."""
        window = {"start": f"{start_time:.3f}", "end": f"{end_time:.3f}", "step": step}
        data = self._ask("query_range", {**(params or {}), **window, "query": query}, timeout)
        if data.get("resultType") != "matrix":
            raise _failure("Malformed", f"expected a matrix, got a {data.get('resultType')}")
        return _series(data)

    def _ask(self, endpoint: str, form: Mapping[str, Any], timeout: float | None) -> dict[str, Any]:
        """The `data` of a complete answer."""
        limit_s = timeout or self._timeout_s
        deadline_s = time.monotonic() + limit_s
        try:
            with self._session.post(
                f"{self.url}/api/v1/{endpoint}",
                data={"timeout": f"{limit_s:g}s", **form},
                headers=self.headers,
                auth=self.auth,
                timeout=(min(CONNECT_S, limit_s), limit_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                body = _read(response, deadline_s, limit_s)
        except (InvalidHeader, UnicodeError):
            raise _failure("BadHeader", "a configured header has characters that no header may have") from None
        except requests.RequestException as error:
            raise _transport_failure(error, self.url) from error
        return _complete(response, body)


def _read(response: requests.Response, deadline_s: float, limit_s: float) -> bytes:
    """The whole body, unless it takes too long or is too large."""
    chunks, size = list[bytes](), 0
    for chunk in response.iter_content(64 * 1024):
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > deadline_s:
            raise _failure("Timeout", f"no complete answer within {limit_s:g} s")
        if size > ANSWER_BYTES_MAX:
            raise _failure("TooLarge", f"the answer exceeds {ANSWER_BYTES_MAX // 2**20} MiB")
    return b"".join(chunks)


def _transport_failure(error: requests.RequestException, url: str) -> SourceError:
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return _failure("Tls", f"{host}: {_cause(error)}")
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return _failure("Timeout", f"{host} does not answer")
    return _failure("Unreachable", f"{host}: {_cause(error)}")


def _cause(error: requests.RequestException) -> str:
    """The root cause, without the names of the layers above it."""
    first = error.args[0] if error.args else error
    text = str(getattr(first, "reason", None) or first)
    return re.sub(r"^(<[^>]*>|HTTPS?Connection(Pool)?\([^)]*\)): ", "", text)


def _complete(response: requests.Response, body: bytes) -> dict[str, Any]:
    """`data` of an answer that is JSON, successful and complete."""
    status = response.status_code
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        answer = None
    if status != 200:
        raise _failure(_reason(status, answer), f"HTTP {status}: {_explanation(answer, body)}")
    if not isinstance(answer, dict):
        kind = response.headers.get("Content-Type", "no type")
        raise _failure(
            "NotJson", f"HTTP 200 with {kind}, not JSON: is another service at this address, or a login page?"
        )
    if answer.get("status") != "success" or not isinstance(answer.get("data"), dict):
        raise _failure("QueryFailed", _explanation(answer, body))
    warnings = [w for w in answer.get("warnings") or () if not str(w).startswith(_NOTES)]
    if warnings or answer.get("isPartial"):
        raise _failure("PartialData", "; ".join(map(str, warnings)) or "the server marked its answer as partial")
    return dict(answer["data"])


def _reason(status: int, answer: object) -> str:
    if isinstance(answer, dict) and answer.get("errorType") == "bad_data":
        return "BadQuery"
    if status in _REASONS:
        return _REASONS[status]
    return "ServerError" if status >= 500 else "Refused"


def _explanation(answer: object, body: bytes) -> str:
    if isinstance(answer, dict) and answer.get("error"):
        return f"{answer.get('errorType', 'error')}: {answer['error']}"
    return body[:200].decode(errors="replace").strip() or "no text"


def _series(data: Mapping[str, Any]) -> list[Series]:
    result = data.get("result")
    if not isinstance(result, list) or not all(isinstance(series, dict) for series in result):
        raise _failure("Malformed", "the result is not a list of series")
    return result
