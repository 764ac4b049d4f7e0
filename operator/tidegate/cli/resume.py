"""`tidegate resume`: end a pause."""

import click

from tidegate.cli.named import named
from tidegate.cli.pause import annotate
from tidegate.domain.key import Key


@click.command("resume")
@named
def command(deployment: Key, kubeconfig: str | None, context: str | None) -> None:
    """Resume DEPLOYMENT ([NAMESPACE/]NAME) after a pause."""
    annotate(deployment, kubeconfig=kubeconfig, context=context, paused=False)
    click.echo(f"{deployment} is resumed")
