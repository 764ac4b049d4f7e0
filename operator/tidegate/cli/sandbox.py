"""`tidegate sandbox`: the whole product on this machine."""

import click

from tidegate.errors import SourceError


@click.group(name="sandbox", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """The whole product on this machine, with real parts: without a subcommand, the demo."""


@command.command()
@click.option("--look", "effort", flag_value="LOOK", help="Only look: fetch nothing.")
@click.option("--download", "effort", flag_value="DOWNLOAD", help="Look and download, but build nothing.")
@click.option(
    "--build", "effort", flag_value="BUILD", default=True, help="Build what cannot be had otherwise [default]."
)
def binaries(effort: str) -> None:
    """The real control plane, Helm and Prometheus: found, downloaded or built; says where each came from."""
    from tidegate.sandbox.binaries import OPTIONAL, PROGRAMS, Effort, Provider

    def say(line: str) -> None:
        click.echo(line, err=True)

    failed = False
    provider = Provider(say=say)  # one for all, so that a host that is silent is asked once
    for name in PROGRAMS:
        try:
            found = provider.provide([name], Effort[effort])[name]
        except SourceError as error:
            failed |= name not in OPTIONAL
            click.echo(f"{name:<24} missing{' (optional)' if name in OPTIONAL else ''}: {error.detail}")
        else:
            click.echo(f"{name:<24} {found.path}  ({found.origin})")
    if failed:
        raise SystemExit(1)
