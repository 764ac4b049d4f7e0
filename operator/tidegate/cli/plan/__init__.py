"""
`tidegate plan`: ask the decision core, without a cluster.

Question: which fleet would run, what would it do and cost, and why? Enters: ticks, or manifests and a demand. Leaves:
plans, one per line, or a table for people. May import: every room, each only when it is needed.
"""

from pathlib import Path

import click


@click.command(name="plan")
@click.option("--stream", is_flag=True, help="Plan protocol: one tick per line on stdin, one plan per line on stdout.")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Manifests: AcceleratorClasses and InferenceDeployments, a file or a folder; may be repeated.",
)
def command(*, stream: bool, files: tuple[Path, ...]) -> None:
    """Ask the decision core, without a cluster."""
    if stream:
        _serve()
        return


def _serve() -> None:
    import gc
    import sys

    from tidegate.cli.plan.stream import serve

    # What the core makes is a tree that reference counts free: the collector would only walk it again and again.
    gc.disable()
    serve(sys.stdin.buffer, sys.stdout.buffer)
