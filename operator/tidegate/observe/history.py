"""
Past demand, read back from Prometheus: what the forecast would remember had it been running.

In:    a client, how far back to read, and which workload belongs to which deployment.
Out:   arrivals per second over time, by deployment.
Rules: one query per day of history and group of workloads, so that the size of an answer is bounded whatever the size
       of the fleet. Pods that no longer exist are attributed by the start of their name, which is their workload's name
       (or as much of a long one as the API server keeps).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from tidegate.domain.key import Key
from tidegate.observe.decode import Series, is_possible
from tidegate.observe.dialects import FLOW
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect, quoted, selector
from tidegate.observe.threads import in_thread
from tidegate.units import SECONDS_PER_DAY

# The last day is read by the minute, to learn the error of forecasts minutes ahead. The days before show the season.
STEP_S, FINE_STEP_S = 300.0, 60.0
# A rate over less than this, or less than the window, may not cover two scrapes.
RATE_S_MIN = 120.0
ANSWER_S = 20.0
# Workloads per query. Fifty series of one day at one-minute steps take 15 MiB while they are decoded, and their names
# keep a query below VictoriaMetrics' limit of 16 KiB.
GROUP = 50

# The name of a Deployment's pod ends in its ReplicaSet's hash and five characters, that of a StatefulSet's in a number
# (a LeaderWorkerSet's in two). Hash and characters come from an alphabet without vowels.
_LETTERS = "[bcdfghjklmnpqrstvwxz2456789]"
_END = f"-{_LETTERS}{{6,10}}-{_LETTERS}{{5}}|(?:-[0-9]+){{1,2}}"
# The API server cuts `<workload>-<hash>-` to 58 characters before it appends five. With a hash of ten characters, a
# workload name of 47 loses the dash behind the hash, longer ones lose characters of the hash, and one of 59 loses
# characters of its own.
CUT = 58
LONG = CUT - len("-") - 10
_END_CUT = f"-?{_LETTERS}{{5,15}}"
_WORKLOAD = "tidegate_workload"

# (namespace, workload name)
Workload = tuple[str, str]
Curve = list[tuple[float, float]]


def groups(
    owners: Mapping[Workload, Key], since_s: Mapping[Key, float], *, apart: Collection[Key] = ()
) -> Iterator[dict[Workload, Key]]:
    """
    Workloads to read together: at most `GROUP`, unless one deployment alone has more.

    Args:
        owners: The deployment of each workload.
        since_s: Start of the history each deployment needs. Deployments with similar starts share a group, so that one
            without any memory does not cause the whole past of the others to be read.
        apart: Deployments that are read alone, after the others.
    """
    of: dict[Key, dict[Workload, Key]] = defaultdict(dict)
    for workload, key in owners.items():
        of[key][workload] = key
    group: dict[Workload, Key] = {}
    for key in sorted(of, key=lambda key: (key in apart, since_s[key])):
        if group and (key in apart or len(group) + len(of[key]) > GROUP):
            yield group
            group = {}
        group |= of[key]
    if group:
        yield group


def history_query(dialect: Dialect, workloads: Collection[Workload], step_s: float = STEP_S) -> str:
    """Requests started and rejected per second, by namespace and workload, one point every `step_s`."""
    span_s = max(step_s, RATE_S_MIN, dialect.window_s)
    names = [metric for s in FLOW if s.name in {"started", "rejected"} for metric in s.metrics]
    only = _matchers(dialect, workloads)
    rates = (f"rate({selector(f'{name}{{{only}}}', dialect)}[{span_s:.0f}s])" for name in names)
    # `+` would lose pods that never reject; without the label `part`, `or` would drop all but one series of a pod.
    pod = dialect.grouping
    sums = [f'label_replace(sum by ({pod}) ({rate}), "part", "{i}", "", "")' for i, rate in enumerate(rates)]
    pattern, pod_label = quoted(pod_pattern(name for _, name in workloads)), quoted(dialect.pod_label)
    marked = f'label_replace({" or ".join(sums)}, "{_WORKLOAD}", "$1$2", {pod_label}, {pattern})'
    return f"sum by ({dialect.namespace_label},{_WORKLOAD}) ({marked})"


def pod_pattern(workloads: Iterable[str]) -> str:
    """
    A pattern, in RE2's syntax, that matches every pod of these workloads.

    Either its first or its second group is the name of the workload, cut to `CUT` characters; the other is empty. If a
    pod may belong to two workloads (`phi-4-0` to `phi` or to `phi-4`), it is the longer name.
    """
    names = {name[:CUT] for name in workloads}
    short, long = ({name for name in names if (len(name) >= LONG) is cut} for cut in (False, True))
    parts = [(long, f"{_END}|{_END_CUT}"), (short, _END)]
    return "|".join(f"({_any_of(some)})(?:{end})" for some, end in parts if some)


def _matchers(dialect: Dialect, workloads: Collection[Workload]) -> str:
    """
    Label matchers for pods that may belong to these workloads. What they match in excess is dropped later, by name.
    """
    namespaces = _any_of(namespace for namespace, _ in workloads)
    pods = f"({_any_of(f'{name}-'[:LONG] for _, name in workloads)}).+"
    return f"{dialect.namespace_label}=~{quoted(namespaces)},{dialect.pod_label}=~{quoted(pods)}"


def _any_of(names: Iterable[str]) -> str:
    """A pattern of these names, longer ones tried first. The only special character they can contain is a dot."""
    return "|".join(name.replace(".", r"\.") for name in sorted(set(names), key=lambda name: (-len(name), name)))


async def read_history(
    client: Prometheus,
    dialect: Dialect,
    owners: Mapping[Workload, Key],
    *,
    start_s: float,
    end_s: float,
) -> dict[Key, Curve]:
    """
    Demand of each deployment from `start_s` to `end_s` (unix seconds), in order of time; `owners` is one group.

    Raises:
        SourceError: a part of it could not be read; an incomplete history is worse than none.
    """
    found: dict[Key, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    owner_of = {(namespace, name[:CUT]): key for (namespace, name), key in owners.items()}
    fine_s = max(start_s, end_s - SECONDS_PER_DAY)
    for since_s, till_s, step_s in ((start_s, fine_s - FINE_STEP_S, STEP_S), (fine_s, end_s, FINE_STEP_S)):
        query, begin_s = history_query(dialect, owners, step_s), since_s
        while begin_s < till_s:
            until_s = min(begin_s + SECONDS_PER_DAY, till_s)
            matrix = await _part(client, query, begin_s, until_s, step_s)
            _add(found, matrix, dialect, owner_of)
            begin_s = until_s + step_s
    return {key: sorted(points.items()) for key, points in found.items()}


async def _part(client: Prometheus, query: str, begin_s: float, until_s: float, step_s: float) -> list[Series]:
    return await in_thread(
        lambda: client.custom_query_range(query, begin_s, until_s, f"{step_s:.0f}s", timeout=ANSWER_S)
    )


def _add(
    found: dict[Key, dict[float, float]], matrix: Iterable[Series], dialect: Dialect, owner_of: Mapping[Workload, Key]
) -> None:
    for series in matrix:
        labels, points = series.get("metric"), series.get("values")
        if not isinstance(labels, Mapping) or not isinstance(points, list):
            continue
        key = owner_of.get((labels.get(dialect.namespace_label, ""), labels.get(_WORKLOAD, "")))
        if key is None:
            continue
        for time_s, text in points:
            value = float(text)
            if value >= 0 and is_possible(value):
                found[key][float(time_s)] += value
