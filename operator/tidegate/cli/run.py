"""`tidegate run`: the operator."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from tidegate.cli.options import setting
from tidegate.errors import SpecError
from tidegate.settings import Settings


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add one option per setting, in the order of the settings."""
    for item in reversed(fields(Settings)):
        command = setting(item)(command)
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
