"""
The command line: thin, one file per command.

Question: what does the user want to run?
Enters:   arguments.
Leaves:   text and an exit code.
May import: every room. A command's module is imported only when it is called, so that `tidegate plan` starts fast.

Exit codes: 0 success, 1 failure, 2 wrong usage. For `plan`: 1 also for wrong usage, 2 if the promises cannot be kept.
"""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from tidegate import __version__

# Command name -> one line of help. The module `tidegate.cli.NAME` holds its `command`.
COMMANDS = {
    "run": "Run the operator.",
    "plan": "Plan a fleet for a manifest and a demand, without a cluster.",
    "backtest": "Replay traffic: what each policy would have done and cost.",
    "explain": "Explain the current decision of a deployment.",
    "top": "Show goodput, replicas, attainment and cost of all deployments.",
    "pause": "Pause a deployment: plan and scale nothing.",
    "resume": "Resume a paused deployment.",
    "crds": "Print the custom resource definitions.",
    "sandbox": "Run the whole product on this machine.",
}


# Commands of the kubectl plugin. The others run in a pod or without a cluster.
KUBECTL_COMMANDS = ("explain", "top", "plan", "pause", "resume")


class LazyGroup(click.Group):
    """
    A group that imports a command's module only when the command is called.

    Args:
        names: Commands of this group, from `COMMANDS`.
    """

    def __init__(self, *args: Any, names: Iterable[str] = tuple(COMMANDS), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._names = tuple(names)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Command names, in display order."""
        return list(self._names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None if there is none."""
        if cmd_name not in self._names:
            return None
        command = import_module(f"tidegate.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """As in click. Output that cannot be written is an error in one line."""
        with _output_is_written():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list in `--help` without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self._names])


@contextmanager
def _output_is_written() -> Iterator[None]:
    """Raise a ClickException if the disk is full, or if the encoding of the output lacks a character."""
    try:
        yield
    except UnicodeEncodeError as fault:
        lacking = fault.object[fault.start : fault.end]
        raise click.ClickException(
            f"the output's encoding, {fault.encoding}, has no {lacking!a}: set PYTHONIOENCODING=utf-8"
        ) from fault
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # What is still buffered would fail once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.ClickException(f"the output cannot be written: {fault.strerror}") from fault


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, names=KUBECTL_COMMANDS, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="kubectl tidegate")
def kubectl() -> None:
    """Ask and steer Tidegate from kubectl (`kubectl tidegate ...`)."""


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="tidegate")
def main() -> None:
    """Tidegate serves each LLM at the lowest cost that keeps its latency promises."""
