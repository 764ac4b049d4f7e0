"""Custom resources for the commands that show or change them: one call, an error in words."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tidegate.domain.key import Key

if TYPE_CHECKING:
    from tidegate.ports import Call

Object = dict[str, Any]


def connection(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which cluster."""
    command = click.option("--context", help="Context in the kubeconfig.")(command)
    return click.option(
        "--kubeconfig", help="Kubeconfig file [default: as for kubectl; in a pod its service account]."
    )(command)


output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


def read(path: str, *, kubeconfig: str | None, context: str | None) -> Object:
    """
    One object, or one list.

    Args:
        path: Below the group, e.g. `namespaces/prod/inferencedeployments/chat`.

    Raises:
        click.ClickException: The cluster refused or did not answer.
    """
    from tidegate.ports import GROUP, VERSION, Call

    return send(Call(method="GET", path=f"/apis/{GROUP}/{VERSION}/{path}"), kubeconfig=kubeconfig, context=context)


def send(call: "Call", *, kubeconfig: str | None, context: str | None) -> Object:
    """
    One call.

    Raises:
        click.ClickException: The cluster refused or did not answer.
    """
    from tidegate.errors import TidegateError
    from tidegate.runtime.kube import HttpKubeApi, load_configuration

    async def sent() -> Object:
        async with HttpKubeApi(await load_configuration(kubeconfig, context)) as api:
            return await api.send(call)

    try:
        return asyncio.run(sent())
    except TidegateError as error:
        raise click.ClickException(str(error)) from error


def key_of(resource: Object) -> Key:
    """Namespace and name."""
    return Key(resource["metadata"].get("namespace", "default"), resource["metadata"]["name"])


def conditions_of(resource: Object) -> dict[str, Object]:
    """Condition by type."""
    return {c["type"]: c for c in (resource.get("status") or {}).get("conditions", ())}
