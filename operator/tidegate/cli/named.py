"""Which deployment a command means: `NAMESPACE/NAME`, or `NAME` in the namespace that kubectl would use."""

from collections.abc import Callable
from functools import wraps

import click

from tidegate.cli.objects import connection
from tidegate.domain.key import Key
from tidegate.errors import TidegateError


class DeploymentName(click.ParamType[tuple[str, str]]):
    """Namespace and name; the namespace is empty if only the name was given."""

    name = "namespace/name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split the argument; a usage error if it is no [NAMESPACE/]NAME."""
        if isinstance(value, tuple):
            return value
        namespace, slash, name = str(value).rpartition("/")
        if not name or (slash and not namespace) or "/" in namespace:
            self.fail(f"{value!r} is not [NAMESPACE/]NAME", param, ctx)
        return namespace, name


def named(command: Callable[..., None]) -> Callable[..., None]:
    """Add DEPLOYMENT, its namespace, and the options that select the cluster; the command gets the key."""

    @click.argument("deployment", type=DeploymentName())
    @click.option("-n", "--namespace", help="Namespace of DEPLOYMENT [default: as for kubectl].")
    @connection
    @wraps(command)
    def resolved(
        deployment: tuple[str, str], namespace: str | None, kubeconfig: str | None, context: str | None, **more: object
    ) -> None:
        within, name = deployment
        if within and namespace and within != namespace:
            raise click.BadOptionUsage("namespace", f"-n {namespace} contradicts {within}/{name}")
        where = within or namespace or _usual_namespace(kubeconfig, context)
        command(deployment=Key(where, name), kubeconfig=kubeconfig, context=context, **more)

    return resolved


def _usual_namespace(kubeconfig: str | None, context: str | None) -> str:
    from tidegate.runtime.kube import default_namespace

    try:
        return default_namespace(kubeconfig, context)
    except TidegateError as error:
        raise click.ClickException(str(error)) from error
