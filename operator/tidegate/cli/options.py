"""
Options, and checks of options, that several commands share.

In:    options as parsed by click.
Out:   usage errors.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

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


def url(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Callback of an option that takes the URL of a server."""
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise click.BadParameter(f"{value!r} is not a URL such as http://prometheus:9090")
    return value


def written(_context: click.Context, _option: click.Parameter, value: Path | None) -> Path | None:
    """Callback of an option that takes an output file: its folder must be writable, checked before any work is done."""
    if value is not None and not (value.parent.is_dir() and os.access(value.parent, os.W_OK)):
        raise click.BadParameter(f"{str(value.parent)!r} is not a writable folder")
    return value
