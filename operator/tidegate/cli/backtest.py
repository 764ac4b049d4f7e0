"""`tidegate backtest`: what a policy would have done, and what it would have cost."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.options import PROMETHEUS, manifests, prometheus, refuse, server, written
from tidegate.errors import SourceError, SpecError, TidegateError
from tidegate.report.currency import DOLLARS
from tidegate.units import SECONDS_PER_DAY, SECONDS_PER_HOUR

if TYPE_CHECKING:
    from tidegate.domain.key import Key
    from tidegate.domain.spec import DeploymentSpec
    from tidegate.settings import PrometheusSettings
    from tidegate.sim.compare import Progress
    from tidegate.sim.scenario import Scenario
    from tidegate.sim.score import Result
    from tidegate.sim.standings import Results
    from tidegate.sim.traces import Trace

DEFAULT_POLICIES = "tidegate,static,slo-keda,clairvoyant"
SUITE_POLICIES = "tidegate,clairvoyant,fluid,static,static*,rivals,rivals*"
# Options that are valid only with manifests; the suite's scenarios are fixed.
MANIFEST_ONLY = (
    *("filenames", "traces", *PROMETHEUS, "start", "end"),
    *("truth", "startup_s", "hours"),
)


@click.command("backtest")
@manifests
@click.option(
    "--trace", "traces", multiple=True, metavar="[NAME=]FILE|SHAPE",
    help="Traffic: CSV (arrival_s,input_tokens,output_tokens; .gz too) or SHAPE:RPS:HOURS[:LENGTHS], "
    "e.g. diurnal:12:24:chat. With several deployments: NAME=... for each.",
)  # fmt: skip
@prometheus("Traffic recorded in Prometheus, instead of --trace.")
@click.option(
    "--from", "start", type=click.DateTime(), help="Start of the recorded traffic (UTC) [default: a day before --to]."
)
@click.option("--to", "end", type=click.DateTime(), help="End of the recorded traffic (UTC) [default: now].")
@click.option(
    "--policy",
    "policies",
    help="Comma-separated: NAME, NAME@TIER, NAME* (knob tuned in hindsight), rivals (all of them), rivals* "
    f"[default: {DEFAULT_POLICIES}; with --suite: all].",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Random seed.")
@click.option("--truth", default=1.0, show_default=True, help="True step times, as a multiple of the priors.")
@click.option(
    "--startup", "startup_s", default=120.0, show_default=True, help="Median start-up time of a replica, in seconds."
)
@click.option("--hours", type=float, help="Use only the first hours of the traffic.")
@click.option("--suite", is_flag=True, help="Run the fixed scenarios instead of a manifest.")
@click.option("--scenario", "scenarios", multiple=True, help="Only this scenario of the suite (may be repeated).")
@click.option("--seeds", help="With --suite: several seeds, comma-separated; the table shows means.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="With --suite: number of processes."
)
@click.option(
    "--rows", type=click.Path(path_type=Path, dir_okay=False, writable=True), callback=written,
    help="With --suite: store each run's results in this file, and skip the runs it already has.",
)  # fmt: skip
@click.option("--output", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False, writable=True), callback=written,
    help="Write one self-contained HTML file.",
)  # fmt: skip
@click.option("--list", "listing", is_flag=True, help="List the policies, scenarios and traffic shapes.")
def command(**options: Any) -> None:
    """Replay traffic against a simulated fleet: what each policy would have done, and what it would have cost."""
    try:
        _backtest(Options(prometheus=server(options), **options))
    except TidegateError as fault:
        raise click.ClickException(str(fault)) from fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The parsed options."""

    filenames: tuple[Path, ...]
    traces: tuple[str, ...]
    prometheus: "PrometheusSettings | None"
    start: datetime | None
    end: datetime | None
    policies: str | None
    seed: int
    truth: float
    startup_s: float
    hours: float | None
    suite: bool
    scenarios: tuple[str, ...]
    seeds: str | None
    jobs: int
    rows: Path | None
    output: str
    report: Path | None
    listing: bool


def _backtest(options: Options) -> None:
    if options.listing:
        refuse(*PROMETHEUS, *(f.name for f in fields(Options) if f.name != "listing"), why="not with --list")
        _list()
        return
    fixed = options.suite or bool(options.scenarios)
    if fixed:
        refuse(*MANIFEST_ONLY, why="not with --suite")
    if options.report is None and fixed:
        _tournament(options)
        return
    refuse("seeds", "rows", "jobs", why="only with --suite, and without --report")
    runs = _suite(options.scenarios, options.seed) if fixed else [_from_manifest(options)]
    results = _results(runs, options.policies or (SUITE_POLICIES if fixed else DEFAULT_POLICIES))
    scores = {name: {p: [r.score] for p, r in group.items()} for name, group in results.items()}
    _show(scores, options.output, runs[0].currency)
    if options.report is not None:
        _report(options.report, results)


def _report(path: Path, results: "Mapping[str, Mapping[str, Result]]") -> None:
    from tidegate.sim.report import html

    try:
        path.write_text(html(results), encoding="utf-8")
    except OSError as fault:
        raise SourceError.not_written(path, fault) from fault
    click.echo(f"wrote {path}", err=True)


def _tournament(options: Options) -> None:
    """Run the suite: many scenarios and seeds, one table."""
    from tidegate.sim.compare import all_names
    from tidegate.sim.policies.registry import check
    from tidegate.sim.suite import SUITE
    from tidegate.sim.tournament import Plan, play

    seeds = [options.seed] if options.seeds is None else _seeds(options.seeds)
    policies = all_names(options.policies or SUITE_POLICIES)
    for scenario in _suite(options.scenarios, seeds[0]):
        check(policies, scenario)
    names = options.scenarios or tuple(SUITE)
    plan = Plan(scenarios=names, seeds=seeds, policies=policies, rows=options.rows, jobs=options.jobs)
    with _bar() as update:
        results = play(plan, lambda count, total, what: update(f"[{count}/{total}] {what}", count / total))
    _show(results, options.output, DOLLARS)


def _seeds(text: str) -> list[int]:
    refuse("seed", why="not with --seeds")
    seeds = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if len(seeds) != len(text.split(",")):
        raise SpecError(field="--seeds", value=text, allowed="must be comma-separated whole numbers, 0 or more")
    return seeds


def _list() -> None:
    from tidegate.sim.generators import LENGTHS, SHAPES
    from tidegate.sim.policies.registry import names
    from tidegate.sim.suite import SUITE

    click.echo(f"policies:  {', '.join(names())}")
    click.echo(f"scenarios: {', '.join(SUITE)}")
    click.echo(f"shapes:    {', '.join(SHAPES)}")
    click.echo(f"lengths:   {', '.join(LENGTHS)}")


def _suite(scenarios: tuple[str, ...], seed: int) -> "list[Scenario]":
    from tidegate.sim.suite import SUITE, named

    return [named(name, seed=seed) for name in scenarios or SUITE]


def _from_manifest(options: Options) -> "Scenario":
    from tidegate.api.manifests import load
    from tidegate.sim.offline import Settings, scenario_of

    if options.prometheus is None:
        refuse("start", "end", why="only with --prometheus")
    if not options.filenames or bool(options.traces) == (options.prometheus is not None):
        raise click.UsageError("give -f MANIFEST with either --trace FILE or --prometheus URL; or --suite")
    hours = [] if options.hours is None else [options.hours]
    if not all(0 < number < inf for number in (options.truth, options.startup_s, *hours)):
        raise click.UsageError("--truth, --startup and --hours must be finite and above 0")
    found = load(*options.filenames)
    deployments = found.deployments
    settings = Settings(
        seed=options.seed,
        truth=options.truth,
        startup_s=options.startup_s,
        duration_s=None if options.hours is None else options.hours * SECONDS_PER_HOUR,
    )
    traffic = (
        _traffic(options.traces, list(deployments), options.seed)
        if options.prometheus is None
        else _recorded(options, options.prometheus, deployments)
    )
    return scenario_of(deployments, found.accelerators, traffic, settings)


def _recorded(
    options: Options, settings: "PrometheusSettings", deployments: "Mapping[Key, DeploymentSpec]"
) -> "dict[Key, Trace]":
    """Traffic of each deployment's model in its namespace, as recorded in Prometheus."""
    from tidegate.observe.history import RATE_S_MIN
    from tidegate.observe.prometheus import Access, Prometheus
    from tidegate.observe.queries import Dialect
    from tidegate.sim.recorded import check, recorded

    check(deployments.values())
    end_s = (options.end or datetime.now(UTC)).replace(tzinfo=UTC).timestamp()
    start_s = options.start.replace(tzinfo=UTC).timestamp() if options.start else end_s - SECONDS_PER_DAY
    if end_s - start_s < 60:
        raise click.UsageError("--from must be at least a minute before --to")
    client, dialect = Prometheus(Access.of(settings)), Dialect.of(settings, window_s=RATE_S_MIN)
    return {
        key: recorded(client, spec, dialect, start_s=start_s, end_s=end_s, seed=options.seed + index)
        for index, (key, spec) in enumerate(deployments.items())
    }


def _traffic(traces: tuple[str, ...], keys: "list[Key]", seed: int) -> "dict[Key, Trace]":
    """The trace of each deployment."""
    found: dict[Key, Trace] = {}
    for index, text in enumerate(traces):
        key, source = _owner(text, keys)
        if key in found:
            raise SpecError(field="--trace", value=text, allowed=f"{key} already has a trace")
        found[key] = _trace(source, seed + index)
    return found


def _owner(text: str, keys: "list[Key]") -> "tuple[Key, str]":
    """Deployment and source of a `--trace` option; without a name there must be exactly one deployment."""
    name, equals, source = text.partition("=")
    owners = [k for k in keys if equals and name in (k.name, str(k))]
    if not owners and (not equals or Path(text).exists()):
        owners, source = keys, text
    if len(owners) != 1:
        named = ", ".join(f"{k}=FILE" for k in keys)
        allowed = f"must be {named}" if keys else "the manifests contain no InferenceDeployment"
        raise SpecError(field="--trace", value=text, allowed=allowed)
    return owners[0], source


def _trace(source: str, seed: int) -> "Trace":
    from tidegate.sim.generators import SHAPES, parse
    from tidegate.sim.traces import read

    if source.partition(":")[0] in SHAPES and not Path(source).exists():
        return parse(source, seed=seed)
    return read(Path(source))


def _results(runs: "list[Scenario]", names: str) -> "dict[str, Mapping[str, Result]]":
    from tidegate.sim.compare import all_names, compare
    from tidegate.sim.policies.registry import check

    chosen = all_names(names)
    for scenario in runs:
        check(chosen, scenario)
    found: dict[str, Mapping[str, Result]] = {}
    with _progress(len(runs)) as step:
        for index, scenario in enumerate(runs):
            found[scenario.name] = compare(scenario, chosen, progress=step(index, scenario.name))
    return found


@contextmanager
def _progress(count: int) -> "Iterator[Callable[[int, str], Progress]]":
    """A progress bar over several scenarios, updated with the policy and the share of its run that is done."""
    with _bar() as update:

        def step(index: int, scenario: str) -> "Progress":
            where = f"[{index + 1}/{count}] {scenario}" if count > 1 else scenario
            return lambda policy, share: update(f"{where} · {policy}", share)

        yield step


@contextmanager
def _bar() -> "Iterator[Callable[[str, float], None]]":
    """A progress bar on standard error, if that is a terminal; updated with a text and a share in [0, 1]."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def _show(results: "Results", output: str, code: str) -> None:
    from tidegate.cli.console import console
    from tidegate.sim.standings import standings
    from tidegate.sim.table import markdown, rows, summary, table

    if output == "json":
        click.echo(json.dumps(rows(results, code), indent=2))
        return
    ranking = standings(results)
    if output == "markdown":
        click.echo(markdown(results, ranking, code))
        return
    out = console()
    out.print(table(results, code))
    scores = [s for group in results.values() for each in group.values() for s in each]
    if any(not s.met for s in scores if s.attainment is not None):
        out.print("! the promised share, the mean quality or the budget was not kept")
    if len(results) > 1:
        out.print(summary(ranking))
