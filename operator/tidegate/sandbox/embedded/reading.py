"""
Reads: an object, a list, a page of a list.

In:    a `Request`.
Out:   an object, or a list as of one version; 410 for a page whose version is no longer in the history.
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
    An object, or its scale.

    Raises:
        ApiError: 404.
    """
    found = store.get(request.resource.key, request.key)
    if found is None:
        raise failures.not_found(request.resource.key, request.name)
    return to_scale(found, request.resource) if request.subresource == "scale" else found


def selection(request: Request) -> Predicate:
    """Predicate for the request's label and field selectors."""
    labels = label_selector(request.query.get("labelSelector", ""))
    fields = field_selector(request.query.get("fieldSelector", ""), resource=request.resource.key)
    named = request.name  # older clients watch a single object by its name in the path

    def chosen(item: Object) -> bool:
        return labels(item) and fields(item) and (not named or item["metadata"]["name"] == named)

    return chosen


def select(items: Iterable[Object], request: Request) -> list[Object]:
    """The objects that match the request's selectors."""
    chosen = selection(request)
    return [item for item in items if chosen(item)]


def list_page(store: Store, request: Request) -> dict[str, Any]:
    """
    A list, or with `limit` one page of it. All pages show the state at the version of the first page.

    Raises:
        ApiError: 410 if the version of `continue` is no longer in the history; 504 for a version in the future.
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
        # With a selector the real API server does not know how many remain, and omits the count.
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
