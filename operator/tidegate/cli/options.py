"""
Options, and checks of options, that several commands share.

In:    options as parsed by click.
Out:   usage errors.
"""

import os
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tidegate.errors import SpecError
from tidegate.settings import ENV_PREFIX, PrometheusSettings, flag

manifests = click.option(
    "-f", "--filename", "filenames", multiple=True, type=click.Path(path_type=Path, exists=True, allow_dash=True),
    help="Manifests: a file, a folder, or - for standard input (may be repeated).",
)  # fmt: skip


def refuse(*names: str, why: str) -> None:
    """
    Raise a usage error if any of these options was given, because the command would ignore it.

    Args:
        names: Parameter names of the running command.
        why: Shown after the names of the options, e.g. `only with --suite`.
    """
    context = click.get_current_context()
    given = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: {why}")


def setting(item: Field[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option of one setting; it can also be given as an environment variable."""
    is_switch = isinstance(item.default, bool)
    choices, limits = item.metadata.get("choices"), item.metadata
    within = f" [{limits['low']} to {limits['high']}]" if "low" in limits else ""
    return click.option(
        f"{flag(item.name)}/--no-{item.name.replace('_', '-')}" if is_switch else flag(item.name),
        item.name,
        type=click.Choice(choices) if choices else (None if is_switch else type(item.default)),
        default=item.default,
        envvar=ENV_PREFIX + item.name.upper(),
        show_default=item.default != "",
        show_envvar=True,
        help=f"{limits['about']}{within}",
    )


# Names of the options that `prometheus` adds.
PROMETHEUS = tuple(item.name for item in fields(PrometheusSettings))


def prometheus(about: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """
    Add `--prometheus URL` and the operator's options for access to it; `server` reads them.

    Args:
        about: Help of `--prometheus`.
    """

    def added(command: Callable[..., None]) -> Callable[..., None]:
        address, *others = fields(PrometheusSettings)
        for item in reversed(others):
            command = setting(item)(command)
        return click.option("--prometheus", address.name, metavar="URL", callback=_address, help=about)(command)

    return added


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            PrometheusSettings(prometheus_url=value)
        except SpecError as error:
            raise click.BadParameter(f"{error.value}: {error.allowed}") from error
    return value


def server(options: dict[str, Any]) -> PrometheusSettings | None:
    """
    Take the options of `prometheus` out of the parsed ones; None if no server was named.

    Raises:
        SpecError: one of them is wrong.
        click.UsageError: there is no server to which they could apply.
    """
    asked = {name: options.pop(name) for name in PROMETHEUS}
    if asked["prometheus_url"] is None:
        refuse(*PROMETHEUS, why="only with --prometheus")
        return None
    return PrometheusSettings(**asked)


def written(_context: click.Context, _option: click.Parameter, value: Path | None) -> Path | None:
    """Callback of an option that takes an output file: its folder must be writable, checked before any work is done."""
    if value is not None and not (value.parent.is_dir() and os.access(value.parent, os.W_OK)):
        raise click.BadParameter(f"{str(value.parent)!r} is not a writable folder")
    return value
