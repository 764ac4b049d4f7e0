"""
Error responses of the API server: a `Status` with Kubernetes' own wording.

In:    what went wrong.
Out:   `ApiError`, raised anywhere below the HTTP layer, which renders it.
"""

from collections.abc import Sequence
from typing import Any


class ApiError(Exception):
    """
    An error response.

    Args:
        code: HTTP status.
        reason: Machine-readable reason in CamelCase.
        message: Human-readable message.
        details: Kubernetes' `details`: name, group, kind, causes.
    """

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}
        super().__init__(message)

    def status(self) -> dict[str, Any]:
        """The `Status` object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        return body | ({"details": self.details} if self.details else {}) | {"code": self.code}


def cause(field: str, message: str, reason: str = "FieldValueInvalid") -> dict[str, str]:
    """One invalid field in a 422."""
    return {"reason": reason, "message": message, "field": field}


def not_found(resource: str, name: str) -> ApiError:
    """404 for an object; `resource` is `plural.group`."""
    plural, _, group = resource.partition(".")
    details = {"name": name, "kind": plural} | ({"group": group} if group else {})
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', details)


def already_exists(resource: str, name: str) -> ApiError:
    """409 for creating an object that exists."""
    plural, _, group = resource.partition(".")
    details = {"name": name, "kind": plural} | ({"group": group} if group else {})
    return ApiError(409, "AlreadyExists", f'{resource} "{name}" already exists', details)


def conflict(resource: str, name: str, why: str = "") -> ApiError:
    """409 for a write based on an outdated state."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    details = {"name": name, "kind": resource.partition(".")[0]}
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": {why}', details)


def invalid(kind: str, name: str, causes: Sequence[dict[str, str]]) -> ApiError:
    """422 with all invalid fields; `kind` is `Kind.group`."""
    faults = [f"{each['field']}: {each['message']}" for each in causes]
    text = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
    details = {"name": name, "kind": kind.partition(".")[0], "causes": list(causes)}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    """410: the requested history is no longer available; the client must list again."""
    return ApiError(410, "Expired", message)


def apply_conflict(conflicts: Sequence[tuple[str, str]]) -> ApiError:
    """409 of a server-side apply: fields owned by other managers, as (description of the manager, field path)."""
    count = f"{len(conflicts)} conflict{'s' if len(conflicts) > 1 else ''}"
    managers = {manager for manager, _ in conflicts}
    if len(managers) == 1:
        fields = [field for _, field in conflicts]
        where = f": {fields[0]}" if len(fields) == 1 else ":\n" + "\n".join(f"- {field}" for field in fields)
        text = f"conflict{'s' if len(fields) > 1 else ''} with {next(iter(managers))}{where}"
    else:
        text = "\n".join(f"conflicts with {manager}:\n- {field}" for manager, field in conflicts)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": field}
        for manager, field in conflicts
    ]
    return ApiError(409, "Conflict", f"Apply failed with {count}: {text}", {"causes": causes})
