"""
Many scenarios, seeds and policies: runs those that are not yet stored, in several processes.

In:    names of scenarios of the suite, seeds, policies, and a file with the rows of earlier runs.
Out:   scores by scenario and policy, one per seed; new ones are appended to the file.

The file is JSON lines, one run each. It does not record which version of the simulator or of the core produced a row:
after a change, delete the rows that it affects.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal

from tidegate.errors import SourceError, SpecError
from tidegate.sim.compare import compare
from tidegate.sim.score import Score, from_json
from tidegate.sim.suite import named

Done = Callable[[int, int, str], None]
Rows = dict[tuple[str, int, str], Score]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What to run.

    Args:
        rows: File with the rows of earlier runs, created if missing; None: nothing is stored.
        jobs: Number of processes, >= 1.
    """

    scenarios: Sequence[str]
    seeds: Sequence[int]
    policies: Sequence[str]
    rows: Path | None = None
    jobs: int = 1


def play(plan: Plan, done: Done) -> dict[str, dict[str, list[Score]]]:
    """
    Run every policy in every scenario with every seed.

    Args:
        done: Called after each scenario and seed with the number done, the total, and a label (scenario and seed).

    Raises:
        SourceError: A process was killed, or `plan.rows` cannot be written.
    """
    known = read(plan.rows)
    work = list(_work(plan, known))
    with closing(_played(work, plan.jobs)) as played:
        for count, (unit, scores) in enumerate(played, start=1):
            fresh = {(unit.scenario, unit.seed, policy): score for policy, score in scores.items()}
            known |= fresh
            write(plan.rows, fresh)
            done(count, len(work), f"{unit.scenario} {unit.seed}")
    return {n: {p: [known[n, s, p] for s in plan.seeds] for p in plan.policies} for n in plan.scenarios}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One work item of a process: policies to run for one scenario and seed, and scores that are already known."""

    scenario: str
    seed: int
    policies: Sequence[str]
    known: Mapping[str, Score]


def _work(plan: Plan, known: Rows) -> Iterator[Unit]:
    for scenario in plan.scenarios:
        for seed in plan.seeds:
            mine = {p: score for (n, s, p), score in known.items() if (n, s) == (scenario, seed)}
            lacking = [p for p in plan.policies if p not in mine]
            if lacking:
                yield Unit(scenario=scenario, seed=seed, policies=lacking, known=mine)


def _played(work: list[Unit], jobs: int) -> Generator[tuple[Unit, dict[str, Score]], None, None]:
    if jobs == 1:
        yield from ((unit, _scores(unit)) for unit in work)
        return
    # Spawned, because the compiler's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_uninterrupted) as pool:
        try:
            futures = {pool.submit(_scores, unit): unit for unit in work}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as fault:
            detail = f"a process of --jobs {jobs} was killed, most likely because memory ran out: try fewer jobs"
            raise SourceError(source="backtest", reason="ProcessEnded", detail=detail) from fault
        except BaseException:
            # Without its processes the pool stops at once; otherwise it would finish the queue, which can take hours.
            for process in active_children():
                process.terminate()
            raise


def _uninterrupted() -> None:
    """Ignore Ctrl-C, which a terminal sends to every process: the parent terminates the workers."""
    signal(SIGINT, SIG_IGN)


def _scores(unit: Unit) -> dict[str, Score]:
    results = compare(named(unit.scenario, seed=unit.seed), unit.policies, known=unit.known)
    return {policy: result.score for policy, result in results.items()}


def read(path: Path | None) -> Rows:
    """
    Scores stored in a file; empty if there is no file.

    Raises:
        SpecError: A line is not a row.
    """
    if path is None or not path.exists():
        return {}
    found: Rows = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            found[row["scenario"], row["seed"], row["name"]] = from_json(row)
        except (ValueError, KeyError, TypeError) as fault:
            raise SpecError(
                field=f"{path.name}:{number}", value=line[:80], allowed="must be a row of an earlier run"
            ) from fault
    return found


def write(path: Path | None, scores: Rows) -> None:
    """
    Append scores to the file, if there is one.

    Raises:
        SourceError: The file cannot be written.
    """
    if path is None:
        return
    lines = [json.dumps({"name": name} | asdict(score)) + "\n" for (_, _, name), score in scores.items()]
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as fault:
        raise SourceError.not_written(path, fault) from fault
