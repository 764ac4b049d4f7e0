"""
`tidegate plan`: ask the decision core without a cluster.

Question: which fleet would run, what would it achieve and cost, and why?
Enters:   ticks, or manifests and a demand.
Leaves:   plans, one per line, or tables.
May import: every room, each only when needed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.options import PROMETHEUS, manifests, prometheus, refuse, server
from tidegate.errors import SpecError, TidegateError

if TYPE_CHECKING:
    from tidegate.api.manifests import Manifests
    from tidegate.cli.plan.question import ApiPrice, Load
    from tidegate.domain.key import Key
    from tidegate.domain.spec import Accelerator, DeploymentSpec
    from tidegate.settings import PrometheusSettings


# All options that are invalid with --stream, where the ticks contain everything.
FOR_PEOPLE = (
    *("filenames", "demands", "prompt_tokens", "output_tokens", *PROMETHEUS),
    *("price_in", "price_out", "at", "output"),
)


class Misused(click.UsageError):
    """Wrong usage, with exit code 1, because 2 means that the promises cannot be kept."""

    exit_code = 1


class Plan(click.Command):
    """A command that exits with 1 on wrong usage."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As in click."""
        with _usage_ends_with_1():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As in click."""
        with _usage_ends_with_1():
            return super().invoke(ctx)


@contextmanager
def _usage_ends_with_1() -> Iterator[None]:
    try:
        yield
    except click.UsageError as fault:
        raise Misused(fault.format_message(), fault.ctx) from fault


@click.command("plan", cls=Plan)
@click.option(
    "--stream", is_flag=True, help="Plan protocol: read a tick per line on stdin, write a plan per line on stdout."
)
@manifests
@click.option(
    "--demand", "demands", multiple=True, metavar="[NAME=]RPS",
    help="Demand in requests/s. With several deployments: NAME=RPS for each, and a number for all others.",
)  # fmt: skip
@click.option("--prompt-tokens", type=float, default=1024.0, show_default=True, help="Mean prompt tokens per request.")
@click.option("--output-tokens", type=float, default=256.0, show_default=True, help="Mean output tokens per request.")
@prometheus("Read demand and request lengths of each model from this Prometheus instead.")
@click.option("--api-price-in", "price_in", type=float, help="Price of a hosted API, $ per million prompt tokens.")
@click.option(
    "--api-price-out", "price_out", type=float, help="Its price, $ per million output tokens; shows the break-even."
)
@click.option("--at", type=click.DateTime(), help="Time (UTC) at which schedules are evaluated [default: now].")
@click.option("--output", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
def command(**options: Any) -> None:
    """
    Plan a fleet for a manifest and a demand, without a cluster.

    Prints which fleet would run, its predicted latency and cost, and why. Exit code 2: the promises cannot be kept;
    1: an error.
    """
    if options.pop("stream"):
        refuse(*FOR_PEOPLE, why="not with --stream")
        _serve()
        return
    try:
        kept = _answer(Options(prometheus=server(options), **options))
    except TidegateError as fault:
        raise click.ClickException(str(fault)) from fault
    if not kept:
        raise SystemExit(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The parsed options."""

    filenames: tuple[Path, ...]
    demands: tuple[str, ...]
    prompt_tokens: float
    output_tokens: float
    prometheus: "PrometheusSettings | None"
    price_in: float | None
    price_out: float | None
    at: datetime | None
    output: str


def _serve() -> None:
    import gc
    import sys

    from tidegate.cli.plan.stream import serve

    # The core's data has no reference cycles: reference counting frees it, and the collector would only cost time.
    gc.disable()
    serve(sys.stdin.buffer, sys.stdout.buffer)


def _answer(options: Options) -> bool:
    """Print the answer; True if all promises are kept."""
    from tidegate.cli.plan.question import Question, verdicts
    from tidegate.cli.plan.render import render

    manifests = _manifests(options.filenames)
    price, time_s = _price(options), _time_s(options)
    loads = (
        _stated(options, manifests, time_s)
        if options.prometheus is None
        else _measured(options.prometheus, manifests, time_s)
    )
    question = Question(
        deployments=manifests.deployments, accelerators=manifests.accelerators, loads=loads, time_s=time_s
    )
    found = verdicts(question, price=price)
    click.echo(render(found, manifests.accelerators, form=options.output))
    return all(verdict.is_kept for verdict in found)


def _manifests(filenames: tuple[Path, ...]) -> "Manifests":
    from tidegate.api.manifests import load

    if not filenames:
        raise click.UsageError("give -f MANIFEST and --demand RPS (or --prometheus URL), or --stream")
    found = load(*filenames)
    if not found.deployments:
        raise SpecError(field="-f", value=[str(f) for f in filenames], allowed="must contain an InferenceDeployment")
    for key, spec in found.deployments.items():
        _check_classes(key, spec, found.accelerators)
    return found


def _check_classes(key: "Key", spec: "DeploymentSpec", accelerators: "Mapping[str, Accelerator]") -> None:
    for index, tier in enumerate(spec.tiers):
        if tier.accelerator not in accelerators:
            known = ", ".join(sorted(accelerators)) or "none"
            raise SpecError(
                field=f"{key}: spec.tiers[{index}].accelerator",
                value=tier.accelerator,
                allowed=f"must be an AcceleratorClass in the manifests: {known}",
            )


def _price(options: Options) -> "ApiPrice | None":
    from tidegate.cli.plan.question import ApiPrice

    if options.price_in is None and options.price_out is None:
        return None
    if options.price_in is None or options.price_out is None:
        raise click.UsageError("--api-price-in and --api-price-out must be given together")
    for name, value in (("--api-price-in", options.price_in), ("--api-price-out", options.price_out)):
        if not 0 <= value < float("inf"):
            raise SpecError(field=name, value=value, allowed="must be dollars, 0 or more")
    return ApiPrice(usd_per_million_in=options.price_in, usd_per_million_out=options.price_out)


def _time_s(options: Options) -> float:
    import time

    if options.at is None:
        return time.time()
    return options.at.replace(tzinfo=UTC).timestamp()


def _stated(options: Options, manifests: "Manifests", time_s: float) -> "dict[Key, Load]":
    from tidegate.cli.plan.question import Load, stated
    from tidegate.forecast import ForecastMemory

    for name, tokens in (("--prompt-tokens", options.prompt_tokens), ("--output-tokens", options.output_tokens)):
        if not 0 < tokens < float("inf"):
            raise SpecError(field=name, value=tokens, allowed="must be tokens per request, above 0")
    _check_context(options.prompt_tokens + options.output_tokens, manifests)
    rates = _rates(options.demands, list(manifests.deployments))
    shape = Load(
        memory=ForecastMemory(), rate_rps=0.0, prompt_tokens=options.prompt_tokens, output_tokens=options.output_tokens
    )
    return {key: stated(shape, rate, time_s) for key, rate in rates.items()}


def _check_context(tokens: float, manifests: "Manifests") -> None:
    """
    Check that requests fit into each tier's context.

    Servers would reject longer ones, and a rejected request is never late, so the plan would look good.
    """
    from tidegate.estimate.priors import prior_of

    for key, spec in manifests.deployments.items():
        for tier in spec.tiers:
            context = prior_of(spec.model, tier, manifests.accelerators[tier.accelerator]).serving.context_max
            if tokens > context:
                allowed = f"must be at most {context:.0f} together: --max-model-len of {key}, tier {tier.name}"
                raise SpecError(field="--prompt-tokens and --output-tokens", value=f"{tokens:.0f}", allowed=allowed)


def _rates(demands: tuple[str, ...], keys: "list[Key]") -> "dict[Key, float]":
    """Requests/s by deployment: its own rate, or the one given for all; a usage error if a deployment has neither."""
    own: dict[Key, float] = {}
    shared: dict[Key, float] = {}
    for text in demands:
        name, separator, number = text.rpartition("=")
        matching = [key for key in keys if not separator or name in (key.name, str(key))]
        try:
            rate = float(number)
        except ValueError:
            rate = -1.0
        if not matching or not 0 <= rate < float("inf"):
            names = ", ".join(f"{key.name}=RPS" for key in keys)
            raise SpecError(field="--demand", value=text, allowed=f"must be requests/s, 0 or more: RPS or {names}")
        rates = own if separator else shared
        twice = [str(key) for key in matching if key in rates]
        if twice:
            raise SpecError(field="--demand", value=text, allowed=f"{', '.join(twice)} already has a demand")
        rates |= dict.fromkeys(matching, rate)
    found = shared | own
    missing = [key for key in keys if key not in found]
    if missing:
        raise click.UsageError(f"give --demand for {', '.join(map(str, missing))}, or --prometheus URL")
    return {key: found[key] for key in keys}


def _measured(settings: "PrometheusSettings", manifests: "Manifests", time_s: float) -> "dict[Key, Load]":
    from tidegate.cli.plan.live import WINDOW_S, measured
    from tidegate.observe.prometheus import Access, Prometheus
    from tidegate.observe.queries import Dialect
    from tidegate.sim.recorded import check

    refuse("demands", "prompt_tokens", "output_tokens", why="not with --prometheus")
    check(manifests.deployments.values())
    client, dialect = Prometheus(Access.of(settings)), Dialect.of(settings, window_s=WINDOW_S)
    return {
        key: measured(client, key, spec.model, dialect, time_s=time_s) for key, spec in manifests.deployments.items()
    }
