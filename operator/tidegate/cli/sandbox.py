"""`tidegate sandbox`: the whole product on this machine."""

from asyncio import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidegate.errors import SourceError, TidegateError

if TYPE_CHECKING:
    from tidegate.sandbox.demo import Options, Scenario


@click.group(name="sandbox", invoke_without_command=True)
@click.option(
    "--manifest",
    type=click.Path(exists=True, path_type=Path),
    help="Your own manifests (file or folder): AcceleratorClasses and InferenceDeployments.",
)
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your own traffic: CSV with arrival_s,input_tokens,output_tokens (.gz too).",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=10),
    default=300.0,
    show_default=True,
    help="Duration of the replay in seconds.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=1),
    help="Seconds of traffic per second, at the same rates [default: a day fills the duration; a trace: real time].",
)
@click.option(
    "--control-plane",
    type=click.Choice(["auto", "kubernetes", "embedded"]),
    default="auto",
    envvar="CONTROL_PLANE",
    show_default=True,
    show_envvar=True,
    help="The real one, the embedded emulation, or (auto) the real one if it needs no build.",
)
@click.option(
    "--runtime",
    type=click.Choice(["emulated", "vllm"]),
    default="emulated",
    show_default=True,
    help="Run the pods with the emulated vLLM, or with the real engine on the CPU (see `vllm-env`) at the same pace.",
)
@click.option(
    "--balance",
    type=click.Choice(["least", "random"]),
    default="least",
    show_default=True,
    help="Send requests to the least busy replica (as a gateway does) or to a random one (as a Service does).",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Random seed.")
@click.option("--keep", is_flag=True, help="Keep everything running until Ctrl-C, and print how to reach it.")
@click.pass_context
def command(context: click.Context, /, **values: Any) -> None:
    """Run the whole product on this machine; without a subcommand, the demo."""
    if context.invoked_subcommand is None:
        _demo(values)


def _demo(values: dict[str, Any]) -> None:
    from rich.console import Console

    from tidegate.sandbox.demo import Options, run
    from tidegate.sandbox.front import Policy

    options = Options(
        trace=values["trace"],
        duration_s=values["duration"],
        speed=values["speed"],
        control_plane=values["control_plane"],
        runtime=values["runtime"],
        policy=Policy(values["balance"]),
        keep=values["keep"],
        seed=values["seed"],
    )
    if options.runtime == "vllm":
        _vllm_is_there()
    try:
        run(_scenario(options, values["manifest"]), console=Console())
    except TidegateError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except CancelledError:  # SIGTERM
        raise SystemExit(143) from None


def _vllm_is_there() -> None:
    from tidegate.sandbox.vllm.environment import find_environment

    if find_environment() is None:
        raise click.UsageError("--runtime vllm needs an environment of its own: `tidegate sandbox vllm-env` creates it")


def _scenario(options: "Options", manifest: Path | None) -> "Scenario":
    """The demo's scenario from the manifests, which are validated as strictly as the API server will."""
    import yaml

    from tidegate.api import crd, manifests
    from tidegate.api.documents import documents
    from tidegate.sandbox.demo import MANIFEST
    from tidegate.sandbox.demo.scenario import scenario

    path = manifest or MANIFEST
    parsed = manifests.load(path, offline=False)
    texts = {str(file): file.read_text(encoding="utf-8") for file in manifests.files(path)}
    return scenario(
        options,
        documents=[each for source, text in texts.items() for each in documents(text, source) if each],
        definitions=[yaml.safe_load(text) for text in crd.files().values()],
        deployments=parsed.deployments,
        accelerators=parsed.accelerators,
    )


@command.command()
@click.option("--look", "effort", flag_value="LOOK", help="Only look for programs; download nothing.")
@click.option("--download", "effort", flag_value="DOWNLOAD", help="Look and download, but build nothing.")
@click.option(
    "--build", "effort", flag_value="BUILD", default=True, help="Build what is not available otherwise [default]."
)
def binaries(effort: str) -> None:
    """Find, download or build the real control plane, Helm and Prometheus; print where each came from."""
    from tidegate.sandbox.binaries import OPTIONAL, PROGRAMS, Effort, Provider

    def say(line: str) -> None:
        click.echo(line, err=True)

    failed = False
    provider = Provider(say=say)  # shared, so that a host that does not answer is tried only once
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


@command.command(name="vllm-env")
def vllm_env() -> None:
    """Create the environment with a real vLLM for the CPU, which `pytest -m vllm` compares the emulation with."""
    from tidegate.sandbox.vllm.environment import make_environment

    try:
        environment = make_environment(lambda line: click.echo(line, err=True))
    except SourceError as error:
        raise click.ClickException(error.detail) from error
    click.echo(environment.folder)
