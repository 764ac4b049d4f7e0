"""
The embedded control plane's HTTP server, with the same Python interface as the real control plane.

In:    requests with a bearer token.
Out:   JSON. Requests are recorded by user, so that a test can compare them with the permissions in the chart.
"""

import contextlib
import secrets
import shutil
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.control_plane.certificates import self_signed, server_context
from tidegate.sandbox.control_plane.processes import working_folder
from tidegate.sandbox.embedded import discovery, events, failures, reading
from tidegate.sandbox.embedded.controllers import Controllers
from tidegate.sandbox.embedded.deleting import Deleter
from tidegate.sandbox.embedded.request import NowhereError, Request, locate, verb_of
from tidegate.sandbox.embedded.resources import Registry, Resource
from tidegate.sandbox.embedded.store import Change, Object, Store
from tidegate.sandbox.embedded.tables import partial, table
from tidegate.sandbox.embedded.watching import watch
from tidegate.sandbox.embedded.writing import Writer

HOST = "127.0.0.1"
BODY_BYTES = 4 << 20
Right = tuple[str, str, str, str]  # (verb, group, resource, subresource), as in an RBAC rule


class EmbeddedControlPlane:
    """
    An API server and the few controllers that the sandbox needs, in this process, on a free loopback port.

    Args:
        controllers: Whether to run the controllers; off for tests of the API alone.
        history: How many changes are kept for watches.
    """

    kind = "embedded"

    def __init__(self, *, controllers: bool = True, history: int = 20_000) -> None:
        self.store, self.registry = Store(history=history), Registry()
        self.requested: dict[str, set[Right]] = {}
        self._tokens = {secrets.token_urlsafe(24): "admin"}
        self._admin_token = next(iter(self._tokens))
        self._writer, self._deleter = Writer(self.store, self.registry), Deleter(self.store)
        self._controllers = Controllers(self.store, self.registry, self._writer, self._deleter) if controllers else None
        self.store.listeners.append(self._follow_definitions)

    @property
    def admin(self) -> Account:
        """An account with all permissions."""
        return Account(url=self.url, ca_file=self._certificate, token=self._admin_token)

    async def __aenter__(self) -> Self:
        self._folder = working_folder()
        # Go clients send no token over plain HTTP, so TLS is needed.
        self._certificate = self_signed(self._folder, address=HOST)
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0, ssl_context=server_context(self._certificate)).start()
        self.url = f"https://{HOST}:{self._runner.addresses[0][1]}"
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            body = {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}
            namespaces = self.registry.by_key("namespaces")
            self._writer.create(Request(verb="create", resource=namespaces, body=msgspec.json.encode(body)))
        if self._controllers:
            await self._controllers.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._controllers:
            await self._controllers.stop()
        await self._runner.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def service_account(self, namespace: str, name: str) -> Account:
        """An account with a token of a service account; its requests are recorded in `requested`."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = f"system:serviceaccount:{namespace}:{name}"
        return Account(url=self.url, ca_file=self._certificate, token=token, namespace=namespace)

    def _follow_definitions(self, change: Change) -> None:
        """Update the served kinds when a CRD changes; when it is deleted, delete its objects."""
        if change.resource != "customresourcedefinitions.apiextensions.k8s.io":
            return
        if change.new is not None:
            self.registry.define(change.new)
        elif change.old is not None:
            key = f"{change.old['spec']['names']['plural']}.{change.old['spec']['group']}"
            for item in self.store.objects(key):
                self.store.remove(key, (item["metadata"].get("namespace", ""), item["metadata"]["name"]))
            self.registry.forget(change.old)

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        """Answer a request; the only place that turns errors into `Status` objects."""
        try:
            user = self._authenticate(http)
            if static := self._static(http):
                return static
            request = await self._read(http, user)
            if request.verb == "watch":
                return await self._stream(http, request)
            code, body = self._objects(request)
            return _json(code, _shaped(body, request), warnings=request.warnings)
        except NowhereError:
            return web.Response(status=404, text="404 page not found\n")
        except failures.ApiError as error:
            return _json(error.code, error.status())

    def _authenticate(self, http: web.Request) -> str:
        token = http.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self._tokens:
            raise failures.ApiError(401, "Unauthorized", "Unauthorized")
        return self._tokens[token]

    def _static(self, http: web.Request) -> web.Response | None:
        """Health, version, discovery, OpenAPI."""
        path = http.path.rstrip("/") or "/"
        if path in ("/readyz", "/livez", "/healthz"):
            return web.Response(text="ok")
        if path == "/openapi/v2":
            if "protobuf" in http.headers.get("Accept", ""):
                kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
                return web.Response(body=discovery.OPENAPI_V2_PROTOBUF, headers={"Content-Type": kind})
            return _json(200, discovery.OPENAPI_V2)
        if http.method == "GET" and (body := discovery.document(path, self.registry)) is not None:
            return _json(200, body)
        if not path.startswith(("/api/", "/apis/")) or path.count("/") < 3:
            raise NowhereError
        return None

    async def _read(self, http: web.Request, user: str) -> Request:
        resource, namespace, name, subresource = locate(http.path, self.registry)
        query = dict(http.query)
        watching = query.get("watch", "").lower() in ("true", "1")
        verb = verb_of(http.method, name=name, watch=watching)
        self.requested.setdefault(user, set()).add((verb, resource.group, resource.plural, subresource))
        if http.content_type == "application/vnd.kubernetes.protobuf":
            text = "the body of the request was in an unknown format - accepted media types include: application/json"
            raise failures.ApiError(415, "UnsupportedMediaType", text)
        return Request(
            verb=verb,
            resource=self.registry.by_key("events") if resource.group == events.GROUP else resource,
            renamed=resource.group == events.GROUP,
            namespace=namespace,
            name=name,
            subresource=subresource,
            query=query,
            content_type=http.content_type,
            body=await http.read() if http.can_read_body else b"",
            agent=http.headers.get("User-Agent", ""),
            accept=http.headers.get("Accept", ""),
        )

    def _objects(self, request: Request) -> tuple[int, Object]:
        """Answer a request for objects, except watches."""
        if request.subresource in ("binding", "eviction", "token"):
            return self._action(request)
        answers: Mapping[str, Callable[[Request], tuple[int, Object]]] = {
            "get": lambda each: (200, reading.get(self.store, each)),
            "list": lambda each: (200, reading.list_page(self.store, each)),
            "create": self._writer.create,
            "update": self._writer.update,
            "patch": self._writer.patch,
            "delete": self._deleter.delete,
            "deletecollection": self._deleter.delete_all,
        }
        return answers[request.verb](request)

    def _action(self, request: Request) -> tuple[int, Object]:
        """Subresources that are actions: bind a pod, evict it, request a token."""
        if request.verb != "create":
            raise failures.ApiError(405, "MethodNotAllowed", "only POST is allowed here")
        if request.subresource == "binding":
            return self._writer.bind(request)
        if request.subresource == "eviction":
            return self._deleter.delete(request)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = f"system:serviceaccount:{request.namespace}:{request.name}"
        return 201, {**request.item(), "status": {"token": token, "expirationTimestamp": "2100-01-01T00:00:00Z"}}

    async def _stream(self, http: web.Request, request: Request) -> web.StreamResponse:
        async with contextlib.aclosing(watch(self.store, request)) as changes:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(http)
            async for kind, item in changes:
                shown = item if kind in ("ERROR", "BOOKMARK") else _shaped(item, request)
                await response.write(msgspec.json.encode({"type": kind, "object": shown}) + b"\n")
            return response


def _shaped(body: Object, request: Request) -> Object:
    """A body in the first supported form that the client accepts."""
    resource = request.resource
    if body.get("kind") in ("Status", "Scale") or request.subresource not in ("", "status"):
        return body
    for accepted in request.accept.split(","):
        if "as=Table" in accepted and "v=v1beta1" not in accepted:
            return table(body.get("items", [body]), resource, _list_metadata(body))
        if "as=PartialObjectMetadata" in accepted:
            if "items" not in body:
                return partial(body)
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
            return {**head, "items": [partial(each) for each in body["items"]]}
        if "as=" not in accepted:
            break
    return _renamed(body) if request.renamed else _versioned(body, resource)


def _renamed(body: Object) -> Object:
    """Events in the form of `events.k8s.io`."""
    if "items" in body:
        return {**body, "apiVersion": f"{events.GROUP}/v1", "items": [_renamed(each) for each in body["items"]]}
    return events.from_core(body)


def _list_metadata(body: Object) -> dict[str, Any]:
    if "items" in body:
        return dict(body["metadata"])
    return {"resourceVersion": body["metadata"].get("resourceVersion", "")}


def _versioned(body: Object, resource: Resource) -> Object:
    """Objects in the requested version of their kind."""
    if "items" in body:
        return {**body, "items": [_versioned(each, resource) for each in body["items"]]}
    return body if body.get("apiVersion") == resource.api_version else {**body, "apiVersion": resource.api_version}


def _json(code: int, body: Object, warnings: list[str] | None = None) -> web.Response:
    response = web.Response(status=code, body=msgspec.json.encode(body), content_type="application/json")
    for each in warnings or ():
        text = each.replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{text}"')
    return response
