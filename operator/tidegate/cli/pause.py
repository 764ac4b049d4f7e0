"""`tidegate pause`, and what `tidegate resume` shares with it: set or remove one annotation of a deployment."""

import click

from tidegate.cli.named import named
from tidegate.cli.objects import send
from tidegate.domain.key import Key


def annotate(key: Key, *, kubeconfig: str | None, context: str | None, paused: bool) -> None:
    """
    Set or remove the pause annotation.

    Raises:
        click.ClickException: The cluster refused or did not answer.
    """
    from tidegate.api.convert import PAUSED_ANNOTATION
    from tidegate.ports import DEPLOYMENTS, FIELD_MANAGER, GROUP, MERGE_PATCH, VERSION, Call

    call = Call(
        method="PATCH",
        path=f"/apis/{GROUP}/{VERSION}/namespaces/{key.namespace}/{DEPLOYMENTS}/{key.name}",
        params={"fieldManager": f"{FIELD_MANAGER}-cli"},
        body={"metadata": {"annotations": {PAUSED_ANNOTATION: "true" if paused else None}}},
        content_type=MERGE_PATCH,
    )
    send(call, kubeconfig=kubeconfig, context=context)


@click.command("pause")
@named
def command(deployment: Key, kubeconfig: str | None, context: str | None) -> None:
    """Pause DEPLOYMENT ([NAMESPACE/]NAME): Tidegate plans and scales nothing, but keeps measuring and reporting."""
    annotate(deployment, kubeconfig=kubeconfig, context=context, paused=True)
    click.echo(f"{deployment} is paused")
