"""Read and change custom resources: one API call per command, errors as messages."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tidegate.domain.key import Key

if TYPE_CHECKING:
    from tidegate.ports import Call

Object = dict[str, Any]


def connection(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select the cluster."""
    command = click.option("--context", help="Context in the kubeconfig, which is then used in a pod, too.")(command)
    return click.option(
        "--kubeconfig", help="Kubeconfig file [default: as for kubectl; in a pod its service account]."
    )(command)


output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


def read(path: str, *, kubeconfig: str | None, context: str | None) -> Object:
    """
    Read an object or a list.

    Args:
        path: Relative to the API group and version, e.g. `namespaces/prod/inferencedeployments/chat`.

    Raises:
        click.ClickException: The cluster rejected the request or did not answer.
    """
    from tidegate.ports import GROUP, VERSION, Call

    return send(Call(method="GET", path=f"/apis/{GROUP}/{VERSION}/{path}"), kubeconfig=kubeconfig, context=context)


def send(call: "Call", *, kubeconfig: str | None, context: str | None) -> Object:
    """
    Make one API call and return the response.

    Raises:
        click.ClickException: The cluster rejected the request or did not answer.
    """
    from tidegate.errors import TidegateError
    from tidegate.ports import ApiError
    from tidegate.runtime.kube import HttpKubeApi, load_configuration

    async def sent() -> Object:
        async with HttpKubeApi(await load_configuration(kubeconfig, context)) as api:
            return await api.send(call)

    try:
        return asyncio.run(sent())
    except TidegateError as error:
        # An object that is missing has Kubernetes' own reason, `NotFound`; a whole API that is missing has none.
        unknown = isinstance(error, ApiError) and error.status == 404 and error.reason != "NotFound"
        hint = (
            "; Tidegate's CRDs are not installed: tidegate crds | kubectl apply --server-side -f -" if unknown else ""
        )
        raise click.ClickException(f"{error}{hint}") from error


def key_of(resource: Object) -> Key:
    """Namespace and name."""
    return Key(resource["metadata"].get("namespace", "default"), resource["metadata"]["name"])


def conditions_of(resource: Object) -> dict[str, Object]:
    """Conditions by type."""
    return {c["type"]: c for c in (resource.get("status") or {}).get("conditions", ())}
