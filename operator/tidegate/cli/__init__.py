"""
The command line: thin, one file per command.

Question: what did the person ask for? Enters: arguments. Leaves: text, and an exit code.
May import: every room. Each command is loaded only when it is called, so that `tidegate plan` starts fast.

Exit codes: 0 done; 1 something failed; 2 wrong usage, or (plan) the promises cannot be met.
"""

from importlib import import_module

import click

from tidegate import __version__

# Command name -> one line of help. The module `tidegate.cli.NAME` holds its `command`.
COMMANDS = {
    "run": "Run the operator.",
    "plan": "Ask the decision core, without a cluster.",
    "backtest": "What a policy would have done, and what it would have cost.",
    "explain": "Why a deployment runs what it runs.",
    "top": "Load, replicas, attainment and cost of every deployment.",
    "crds": "The custom resource definitions, from the models.",
    "sandbox": "The whole product on this machine, with real parts.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Command names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"tidegate.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tidegate")
def main() -> None:
    """Tidegate serves each LLM at the lowest cost that keeps its latency promises."""
