"""
Reads: one object, a list, a page of a list.

In:    a `Request`.
Out:   an object or a list as it was at one version; 410 for a page of a list whose version is forgotten.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

from tidegate.sandbox.embedded import failures
from tidegate.sandbox.embedded.request import Request
from tidegate.sandbox.embedded.scaling import to_scale
from tidegate.sandbox.embedded.selectors import Predicate, field_selector, label_selector
from tidegate.sandbox.embedded.store import Key, Object, Store


def get(store: Store, request: Request) -> Object:
    """
    One object, or its scale.

    Raises:
        ApiError: 404.
    """
    found = store.get(request.resource.key, request.key)
    if found is None:
        raise failures.not_found(request.resource.key, request.name)
    return to_scale(found, request.resource) if request.subresource == "scale" else found


def selection(request: Request) -> Predicate:
    """What the request's label and field selectors let through."""
    labels = label_selector(request.query.get("labelSelector", ""))
    fields = field_selector(request.query.get("fieldSelector", ""), resource=request.resource.key)
    named = request.name  # a watch of one object, as older clients write it

    def chosen(item: Object) -> bool:
        return labels(item) and fields(item) and (not named or item["metadata"]["name"] == named)

    return chosen


def select(items: Iterable[Object], request: Request) -> list[Object]:
    """Those of the objects that the request's selectors let through."""
    chosen = selection(request)
    return [item for item in items if chosen(item)]


def list_page(store: Store, request: Request) -> dict[str, Any]:
    """
    A list, or with `limit` one page of it. All pages show the state at the version of the first.

    Raises:
        ApiError: 410 where the version of a `continue` is forgotten; 504 for a version that is not there yet.
    """
    version, after = store.version, None
    if token := request.query.get("continue"):
        version, after = _read_token(token)
    _check_future(store, request)
    try:
        state = store.snapshot(request.resource.key, version)
    except failures.ApiError as error:
        text = "The provided continue parameter is too old to display a consistent list result. "
        raise failures.expired(text + "You must start a new list without the continue parameter.") from error
    chosen = selection(request)
    rest = [
        (key, item)
        for key, item in state.items()
        if (not request.namespace or key[0] == request.namespace) and (after is None or key > after) and chosen(item)
    ]
    limit = int(request.query.get("limit") or 0) or len(rest)
    page = rest[:limit]
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if len(rest) > len(page):
        metadata |= {"continue": _write_token(version, page[-1][0])}
        # With a selector the real API server cannot tell how many remain, and says nothing.
        if not (request.query.get("labelSelector") or request.query.get("fieldSelector")):
            metadata |= {"remainingItemCount": len(rest) - len(page)}
    resource = request.resource
    head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
    return {**head, "items": [item for _, item in page]}


def _check_future(store: Store, request: Request) -> None:
    asked = request.query.get("resourceVersion") or "0"
    if not asked.isdigit():
        raise failures.bad_request(f"resourceVersion: Invalid value: {asked!r}")
    if int(asked) > store.version:
        text = f"Timeout: Too large resource version: {asked}, current: {store.version}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise failures.ApiError(504, "Timeout", text, {"causes": [cause], "retryAfterSeconds": 1})


def _write_token(version: int, last: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, *last]).encode()).decode()


def _read_token(token: str) -> tuple[int, Key]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError) as error:
        raise failures.bad_request("continue key is not valid") from error
    return int(version), (namespace, name)
