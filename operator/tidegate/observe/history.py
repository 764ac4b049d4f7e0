"""
Yesterday's demand, read back: what the forecast would remember if it had been running.

In:    a client, how far back, and which workload serves which deployment.
Out:   arrivals per second over time, by deployment.
Rules: one query per day of history for a group of workloads: what a group's points take is bounded, whatever the size
       of the fleet. Pods that are long gone are found again by their workload's name, which their own name begins with
       (all of it, or as much as the API server leaves of a long one).
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

# The last day is read by the minute: it teaches how wrong a forecast of minutes is. The days before teach the season.
STEP_S, FINE_STEP_S = 300.0, 60.0
# A rate over less, or over less than the window, may not see two scrapes.
RATE_S_MIN = 120.0
ANSWER_S = 20.0
# Workloads read at once. Fifty series of a day by the minute are 15 MiB while they are decoded, and their names keep a
# query below the 16 KiB that VictoriaMetrics takes.
GROUP = 50

# A pod of a Deployment ends in its ReplicaSet's hash and five letters, one of a StatefulSet in a number (of a
# LeaderWorkerSet in two). Kubernetes draws both from an alphabet without vowels.
_LETTERS = "[bcdfghjklmnpqrstvwxz2456789]"
_END = f"-{_LETTERS}{{6,10}}-{_LETTERS}{{5}}|(?:-[0-9]+){{1,2}}"
# The API server cuts `<workload>-<hash>-` to 58 characters before it adds the five letters. From a name of 47 on a hash
# of ten loses the dash behind it, then itself letter by letter; a name of 59 loses letters of its own.
CUT = 58
LONG = CUT - len("-") - 10
_END_CUT = f"-?{_LETTERS}{{5,15}}"
_WORKLOAD = "tidegate_workload"

# (namespace, workload name)
Workload = tuple[str, str]
Curve = list[tuple[float, float]]


def groups(owners: Mapping[Workload, Key], since_s: Mapping[Key, float]) -> Iterator[dict[Workload, Key]]:
    """
    Workloads to read together, at most `GROUP` where a deployment has no more of its own.

    Args:
        owners: Whose workload is whose.
        since_s: From when on each deployment's demand is wanted; those alike share a group, so that one without any
            memory does not make the others' whole past be read.
    """
    of: dict[Key, dict[Workload, Key]] = defaultdict(dict)
    for workload, key in owners.items():
        of[key][workload] = key
    group: dict[Workload, Key] = {}
    for key in sorted(of, key=lambda key: since_s[key]):
        if group and len(group) + len(of[key]) > GROUP:
            yield group
            group = {}
        group |= of[key]
    if group:
        yield group


def history_query(dialect: Dialect, workloads: Collection[Workload], step_s: float = STEP_S) -> str:
    """Requests begun and rejected per second, by namespace and workload, for one point every `step_s`."""
    span_s = max(step_s, RATE_S_MIN, dialect.window_s)
    names = [metric for s in FLOW if s.name in {"started", "rejected"} for metric in s.metrics]
    only = _matchers(dialect, workloads)
    rates = (f"rate({selector(f'{name}{{{only}}}', dialect)}[{span_s:.0f}s])" for name in names)
    # `+` would lose pods that never reject; without a mark `or` would drop what a pod has under several names.
    pod = dialect.grouping
    sums = [f'label_replace(sum by ({pod}) ({rate}), "part", "{i}", "", "")' for i, rate in enumerate(rates)]
    pattern, pod_label = quoted(pod_pattern(name for _, name in workloads)), quoted(dialect.pod_label)
    marked = f'label_replace({" or ".join(sums)}, "{_WORKLOAD}", "$1$2", {pod_label}, {pattern})'
    return f"sum by ({dialect.namespace_label},{_WORKLOAD}) ({marked})"


def pod_pattern(workloads: Iterable[str]) -> str:
    """
    A pattern that every pod of these workloads matches, in RE2's syntax.

    Its first or its second group, the other being empty, is the name of the workload, cut to `CUT` characters. Where a
    pod may be one of two workloads' (`phi-4-0` of `phi` or of `phi-4`) it is that of the longer name.
    """
    names = {name[:CUT] for name in workloads}
    short, long = ({name for name in names if (len(name) >= LONG) is cut} for cut in (False, True))
    parts = [(long, f"{_END}|{_END_CUT}"), (short, _END)]
    return "|".join(f"({_any_of(some)})(?:{end})" for some, end in parts if some)


def _matchers(dialect: Dialect, workloads: Collection[Workload]) -> str:
    """The pods that may be these workloads', as label matchers; what they match too much is dropped by its name."""
    namespaces = _any_of(namespace for namespace, _ in workloads)
    pods = f"({_any_of(f'{name}-'[:LONG] for _, name in workloads)}).+"
    return f"{dialect.namespace_label}=~{quoted(namespaces)},{dialect.pod_label}=~{quoted(pods)}"


def _any_of(names: Iterable[str]) -> str:
    """A pattern of these names, longer ones tried first; of all they may hold only a dot means something to it."""
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
    Demand of each deployment from `start_s` to `end_s` (unix seconds), by rising time; `owners` is one group.

    Raises:
        SourceError: a part of it could not be read; half a past is worse than none.
    """
    found: dict[Key, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    told = {(namespace, name[:CUT]): key for (namespace, name), key in owners.items()}
    fine_s = max(start_s, end_s - SECONDS_PER_DAY)
    for since_s, till_s, step_s in ((start_s, fine_s - FINE_STEP_S, STEP_S), (fine_s, end_s, FINE_STEP_S)):
        query, begin_s = history_query(dialect, owners, step_s), since_s
        while begin_s < till_s:
            until_s = min(begin_s + SECONDS_PER_DAY, till_s)
            matrix = await _part(client, query, begin_s, until_s, step_s)
            _add(found, matrix, dialect, told)
            begin_s = until_s + step_s
    return {key: sorted(points.items()) for key, points in found.items()}


async def _part(client: Prometheus, query: str, begin_s: float, until_s: float, step_s: float) -> list[Series]:
    return await in_thread(
        lambda: client.custom_query_range(query, begin_s, until_s, f"{step_s:.0f}s", timeout=ANSWER_S)
    )


def _add(
    found: dict[Key, dict[float, float]], matrix: Iterable[Series], dialect: Dialect, told: Mapping[Workload, Key]
) -> None:
    for series in matrix:
        labels, points = series.get("metric"), series.get("values")
        if not isinstance(labels, Mapping) or not isinstance(points, list):
            continue
        key = told.get((labels.get(dialect.namespace_label, ""), labels.get(_WORKLOAD, "")))
        if key is None:
            continue
        for time_s, text in points:
            value = float(text)
            if value >= 0 and is_possible(value):
                found[key][float(time_s)] += value
