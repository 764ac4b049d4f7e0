"""`tidegate resume`: the end of a pause."""

import click

from tidegate.cli.pause import DeploymentName, annotate
from tidegate.domain.key import Key


@click.command("resume")
@click.argument("deployment", type=DeploymentName())
@click.option("--kubeconfig", help="kubeconfig; without it the default file.")
@click.option("--context", help="Context of the kubeconfig.")
def command(deployment: Key, kubeconfig: str | None, context: str | None) -> None:
    """End the pause of DEPLOYMENT (NAMESPACE/NAME)."""
    annotate(deployment, kubeconfig=kubeconfig, context=context, paused=False)
    click.echo(f"{deployment} is resumed")
