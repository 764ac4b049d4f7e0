"""`tidegate run`: the operator."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from tidegate.errors import SpecError
from tidegate.settings import ENV_PREFIX, Settings, flag


def _help(metadata: Any) -> str:
    limits = f" [{metadata['low']} to {metadata['high']}]" if "low" in metadata else ""
    return f"{metadata['about']}{limits}"


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add one option per setting, in the order of the settings."""
    for item in reversed(fields(Settings)):
        is_switch = isinstance(item.default, bool)
        choices = item.metadata.get("choices")
        command = click.option(
            f"{flag(item.name)}/--no-{item.name.replace('_', '-')}" if is_switch else flag(item.name),
            item.name,
            type=click.Choice(choices) if choices else (None if is_switch else type(item.default)),
            default=item.default,
            envvar=ENV_PREFIX + item.name.upper(),
            show_default=item.default != "",
            show_envvar=True,
            help=_help(item.metadata),
        )(command)
    return command


@click.command(short_help="Run the operator.")
@_with_settings
def command(**values: Any) -> None:
    """Run the operator until SIGTERM. Every option can also be given as an environment variable."""
    try:
        settings = Settings(**values)
    except SpecError as error:
        raise click.UsageError(str(error)) from error
    from tidegate.runtime.process import main

    raise SystemExit(main(settings))
