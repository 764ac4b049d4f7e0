"""
From pods to replicas: what counts as capacity, what is on its way, and how long it takes.
"""

from dataclasses import replace

import pytest

from tidegate.domain.key import Key
from tidegate.domain.observation import Missing, TierReading, TierState
from tidegate.observe.decode import PodName, PodSample, Samples
from tidegate.observe.health import Health
from tidegate.observe.objects import PodView
from tidegate.observe.replicas import Roster, TierView

TIER = (Key("prod", "chat"), "bf16")
NOW = 10_000.0
DOWN = Missing(reason="Timeout")
FRESH = PodSample(values={"running": 1.0, "started": 1.0}, age_s=3.0)


def pod(name: str, *, ready_s: float | None = NOW - 500, created_s: float = NOW - 600, **more: object) -> PodView:
    base = PodView(
        namespace="prod",
        name=name,
        uid=f"uid-{name}",
        labels={},
        created_s=created_s,
        ready_s=ready_s,
        ready=ready_s is not None,
        terminating=False,
        unschedulable=False,
        ended=False,
        node="n",
        requests={},
        life=f"uid-{name}/0",
    )
    return replace(base, **more)  # type: ignore[arg-type]


def answering(*names: str) -> dict[PodName, PodSample]:
    return {("prod", name): FRESH for name in names}


def state(
    *pods: PodView,
    samples: Samples | Missing = DOWN,
    wanted: int | None = None,
    roster: Roster | None = None,
    at: float = NOW,
) -> TierState:
    roster = roster or Roster(window_s=60.0, stale_s=60.0)
    view = TierView(pods=pods, wanted=wanted if wanted is not None else len(pods))
    return roster.states({TIER: view}, samples, time_s=at)[TIER]


def in_group(group: int, worker: int) -> dict[str, str]:
    """Labels of a pod of a LeaderWorkerSet; worker 0 is the leader."""
    prefix = "leaderworkerset.sigs.k8s.io"
    return {f"{prefix}/group-index": str(group), f"{prefix}/worker-index": str(worker)}


def counts(found: TierState) -> tuple[int, int, int]:
    return found.ready, found.starting, found.terminating


@pytest.mark.parametrize(
    ("pods", "wanted", "expected"),
    [
        pytest.param([pod("a"), pod("b", ready_s=None)], 2, (1, 1, 0), id="one serves, one starts"),
        pytest.param([pod("a"), pod("b", terminating=True, ready=False)], 1, (1, 0, 1), id="one is on its way out"),
        pytest.param([pod("a", ended=True)], 0, (0, 0, 0), id="an ended pod is no replica"),
        pytest.param([pod("a")], 3, (1, 2, 0), id="replicas that have no pod yet are starting"),
        pytest.param([pod("a"), pod("b")], 1, (1, 0, 1), id="one that is still to be removed is on its way out"),
        pytest.param(
            [pod("a"), pod("b", ready_s=None)], 1, (1, 0, 0), id="one more of a roll-out is none that was asked for"
        ),
    ],
)
def test_replicas_are_counted(pods: list[PodView], wanted: int, expected: tuple[int, int, int]) -> None:
    assert counts(state(*pods, wanted=wanted)) == expected


def test_a_rollout_has_surplus_pods() -> None:
    found = state(pod("a"), pod("b", ready_s=None), wanted=1)
    assert (found.surplus, found.on_the_way) == (1, 1)


def test_a_pod_beyond_those_requested_is_no_replica_but_its_requests_count() -> None:
    samples = {("prod", "old"): FRESH, ("prod", "canary"): FRESH}
    found = state(pod("canary", ready_s=NOW - 100), pod("old"), samples=samples, wanted=1)
    assert (found.ready, found.wanted) == (1, 1), "what is held is what was asked for"
    assert isinstance(found.reading, TierReading)
    assert (found.reading.running, found.reading.completion_rps) == (1.0, None)
    assert (found.reading.replicas_reporting, found.reading.arrival_rps) == (1, 2.0)


SCRAPED_ONCE = PodSample(values={"running": 1.0}, age_s=3.0)


@pytest.mark.parametrize(
    ("before", "lost", "arrival_rps"),
    [
        pytest.param("abcd", "b", 4.0, id="it is taken to be like the others"),
        pytest.param("abcd", "bcd", None, id="of most nothing is known"),
        pytest.param("abcd", "abcd", None, id="nor after Prometheus was away"),
        pytest.param("acd", "b", 3.0, id="a new replica has served next to nobody"),
    ],
)
def test_a_replica_with_a_lost_scrape_counts_for_gauges_but_not_for_rates(
    before: str, lost: str, arrival_rps: float | None
) -> None:
    """Scrapes come every 30 s and the window is one minute: the gauges are fresh, but there are no rates."""
    roster = Roster(window_s=60.0, stale_s=60.0)
    state(*map(pod, before), samples=answering(*before), roster=roster)
    samples = answering(*"abcd") | {("prod", name): SCRAPED_ONCE for name in lost}
    found = state(*map(pod, "abcd"), samples=samples, roster=roster, at=NOW + 15.0).reading
    assert isinstance(found, TierReading)
    assert (found.running, found.arrival_rps, found.replicas_reporting) == (4.0, arrival_rps, 4)


def test_the_power_of_a_group_is_that_of_all_its_pods() -> None:
    watts = {("prod", name): PodSample(values={"gpu_power_w": 4000.0}) for name in ("a-1", "a-2", "b-1")}
    leader = {("prod", "a"): PodSample(values={"running": 1.0, "gpu_power_w": 4500.0}, age_s=3.0)}
    workers = (pod("a-1"), pod("a-2"), pod("b-1", ready_s=None))
    view = TierView(pods=(pod("a"), pod("b", ready_s=None)), workers=workers, wanted=2)
    found = Roster(window_s=60.0, stale_s=60.0).states({TIER: view}, watts | leader, time_s=NOW)[TIER]
    assert isinstance(found.reading, TierReading)
    assert (found.ready, found.reading.power_w) == (1, 12_500.0)


def test_a_pod_without_room_is_starting_and_unschedulable() -> None:
    found = state(pod("a"), pod("b", ready_s=None, unschedulable=True))
    assert (found.starting, found.unschedulable) == (1, 1)


@pytest.mark.parametrize(
    ("pods", "wanted", "expected"),
    [
        pytest.param([pod("a"), pod("b", ready_s=None)], 2, 0, id="it starts on its node"),
        pytest.param([pod("a"), pod("b", ready_s=None, node="")], 2, 1, id="no room, or a gate holds the pod back"),
        pytest.param([pod("a"), pod("b", ready_s=None)], 9, 7, id="a quota refuses the others, or their turn comes"),
        pytest.param([pod("a"), pod("b", ready_s=None, node="")], 1, 1, id="a roll-out finds no room"),
    ],
)
def test_replicas_on_no_node_are_unplaced(pods: list[PodView], wanted: int, expected: int) -> None:
    found = state(*pods, wanted=wanted)
    assert found.unplaced == expected
    assert found.ready + found.on_the_way - found.unplaced == sum(bool(pod.node) for pod in pods)


def test_a_new_replica_counts_when_its_metrics_answer() -> None:
    roster, young = Roster(window_s=60.0, stale_s=60.0), pod("b", ready_s=NOW - 5)
    before = state(pod("a"), young, samples=answering("a"), roster=roster)
    assert counts(before) == (1, 1, 0)
    after = state(pod("a"), young, samples=answering("a", "b"), roster=roster, at=NOW + 15)
    assert counts(after) == (2, 0, 0)


NO_IMAGE = Health(trouble="ImagePullBackOff: vllm:v9", waits=True)
CRASHING = Health(crashes=3, crashed_s=NOW - 20, trouble="CrashLoopBackOff: container vllm exited with code 1 (Error)")


@pytest.mark.parametrize("trouble", [{"unschedulable": True}, {"health": CRASHING}], ids=["no room", "it crashes"])
def test_a_pod_of_a_roll_out_that_cannot_start_is_a_finding(trouble: dict[str, object]) -> None:
    found = state(pod("a"), pod("b", ready_s=None, **trouble), wanted=1)
    assert (found.starting, found.unasked, found.surplus) == (1, 1, 0)


def test_a_pod_of_a_roll_out_that_starts_is_the_replica_asked_for_rather_than_one_that_cannot() -> None:
    broken = [pod(name, ready_s=None, health=CRASHING) for name in "bcd"]
    found = state(pod("a"), *broken, pod("e", ready_s=None), wanted=3)
    assert (found.starting, found.failing, found.unasked, found.surplus) == (4, 3, 2, 0)


def test_replicas_that_take_the_place_of_others_have_arrived() -> None:
    """One after the other, with maxSurge 0: as many are ready all the time."""
    roster = Roster(window_s=60.0, stale_s=60.0)
    leaves = pod("b", ready=False, terminating=True)
    assert state(pod("a"), pod("b"), pod("c", ready_s=None), wanted=3, roster=roster).arrived == 0
    found = state(pod("a"), leaves, pod("c", ready_s=NOW), pod("d", ready_s=None), wanted=3, roster=roster, at=NOW + 15)
    assert (found.ready, found.starting, found.arrived) == (2, 1, 1)
    assert state(pod("a"), pod("c"), pod("d", ready_s=None), wanted=3, roster=roster, at=NOW + 30).arrived == 0


def of_template(name: str) -> dict[str, str]:
    return {"pod-template-hash": name}


def of_set(ordinal: int, revision: str = "1") -> dict[str, str]:
    return {"controller-revision-hash": revision, "apps.kubernetes.io/pod-index": str(ordinal)}


@pytest.mark.parametrize(
    ("serves", "starts", "expected"),
    [
        pytest.param(of_template("1"), of_template("1"), True, id="a ReplicaSet removes what is not ready"),
        pytest.param(of_template("1"), of_template("2"), False, id="two of them shrink in proportion"),
        pytest.param({"rollouts-pod-template-hash": "1"}, {"rollouts-pod-template-hash": "2"}, False, id="Argo's too"),
        pytest.param(of_set(0), of_set(1), True, id="a StatefulSet removes the highest ordinal"),
        pytest.param(of_set(1), of_set(0), False, id="which is ready here"),
        pytest.param(of_set(0), of_set(1, "2"), False, id="and would replace the next one by the new revision"),
        pytest.param({}, {}, True, id="of others nothing is known"),
        pytest.param({"apps.kubernetes.io/pod-index": "a"}, {}, True, id="nor of a label that no StatefulSet wrote"),
    ],
)
def test_some_workloads_remove_ready_replicas_before_those_that_start(
    serves: dict[str, str], starts: dict[str, str], expected: bool
) -> None:
    assert state(pod("a", labels=serves), pod("b", labels=starts, ready_s=None)).spares_ready is expected


def test_a_replica_that_cannot_be_started_is_failing_and_says_why() -> None:
    found = state(pod("a"), pod("b", ready_s=None, health=NO_IMAGE), pod("c", ready_s=None))
    assert (found.ready, found.starting, found.failing) == (1, 2, 1)
    assert found.trouble == NO_IMAGE.trouble


def test_a_crash_looping_server_is_no_capacity_between_two_crashes() -> None:
    """It becomes ready each time and its metrics arrive, but it crashes at each request."""
    between = pod("b", ready_s=NOW - 5, health=CRASHING, life="uid-b/3")
    found = state(pod("a"), between, samples=answering("a", "b"))
    assert (found.ready, found.starting, found.failing) == (1, 1, 1)
    sound = state(pod("a"), between, samples=answering("a", "b"), at=NOW + 120)
    assert (sound.ready, sound.failing, sound.trouble) == (2, 0, "")


def test_a_restarted_server_must_answer_again() -> None:
    roster, first = Roster(window_s=60.0, stale_s=60.0), pod("b", ready_s=NOW - 500)
    assert counts(state(first, samples=answering("b"), roster=roster)) == (1, 0, 0)
    again = replace(first, ready_s=NOW + 15, life="uid-b/1")
    assert counts(state(again, samples={}, roster=roster, at=NOW + 16)) == (0, 1, 0)
    assert counts(state(again, samples=answering("b"), roster=roster, at=NOW + 30)) == (1, 0, 0)


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        pytest.param({}, (0, 0, ""), id="it starts"),
        pytest.param({"unschedulable": True, "node": ""}, (1, 0, ""), id="it finds no room"),
        pytest.param({"health": NO_IMAGE}, (0, 1, NO_IMAGE.trouble), id="it has no image"),
        pytest.param({"health": CRASHING}, (0, 0, ""), id="it crashes as long as it does not reach its leader"),
        pytest.param({"unschedulable": True, "terminating": True}, (0, 0, ""), id="it is of the group before"),
        pytest.param({"unschedulable": True, "labels": in_group(1, 1)}, (0, 0, ""), id="it is of another group"),
    ],
)
def test_a_leader_waits_for_what_its_workers_wait_for(
    worker: dict[str, object], expected: tuple[int, int, str]
) -> None:
    leaders = tuple(pod(f"big-{i}", ready_s=None if i == 0 else NOW, labels=in_group(i, 0)) for i in range(2))
    workers = (pod("big-0-1", ready_s=None, **{"labels": in_group(0, 1)} | worker),)
    view = TierView(pods=leaders, workers=workers, wanted=2)
    found = Roster(window_s=60.0, stale_s=60.0).states({TIER: view}, DOWN, time_s=NOW)[TIER]
    assert counts(found) == (1, 1, 0)
    assert (found.unschedulable, found.failing, found.trouble) == expected


def test_a_group_of_which_one_pod_is_lost_does_not_serve_even_if_its_leader_is_still_ready() -> None:
    leaders = tuple(pod(f"big-{i}", labels=in_group(i, 0)) for i in range(2))
    workers = (pod("big-0-1", labels=in_group(0, 1)), pod("big-1-1", ready_s=None, labels=in_group(1, 1), lost="m"))
    view = TierView(pods=leaders, workers=workers, wanted=2)
    found = Roster(window_s=60.0, stale_s=60.0).states({TIER: view}, DOWN, time_s=NOW)[TIER]
    assert (*counts(found), found.lost, found.trouble) == (1, 1, 0, 1, "node m is not ready")


def test_a_lost_replica_and_the_one_that_takes_its_place_are_both_counted() -> None:
    found = state(pod("a"), pod("b", ready_s=None, lost="m"), pod("c", ready_s=None), wanted=2)
    assert (*counts(found), found.surplus, found.lost, found.failing) == (1, 2, 0, 0, 1, 0)


def test_replicas_that_a_quota_forbids_are_failing() -> None:
    roster = Roster(window_s=60.0, stale_s=60.0)
    view = TierView(pods=(pod("a"),), wanted=3, refused="FailedCreate: exceeded quota: gpus")
    found = roster.states({TIER: view}, DOWN, time_s=NOW)[TIER]
    assert (found.ready, found.starting, found.failing) == (1, 2, 2)
    assert found.trouble == "FailedCreate: exceeded quota: gpus"


def test_a_pod_of_a_roll_out_that_a_quota_forbids_is_a_finding() -> None:
    roster = Roster(window_s=60.0, stale_s=60.0)
    view = TierView(pods=(pod("a"), pod("b")), wanted=2, refused="FailedCreate: exceeded quota: gpus")
    found = roster.states({TIER: view}, DOWN, time_s=NOW)[TIER]
    assert (found.ready, found.failing, found.trouble) == (2, 1, "FailedCreate: exceeded quota: gpus")
    assert (found.starting, found.unasked, found.unplaced) == (1, 1, 1), "nobody asked for it, and it holds nothing"
    asleep = replace(view, pods=(), wanted=0)
    assert counts(roster.states({TIER: asleep}, DOWN, time_s=NOW)[TIER]) == (0, 0, 0)


def test_a_replica_that_has_answered_stays_ready_while_a_scrape_fails() -> None:
    roster, young = Roster(window_s=60.0, stale_s=60.0), pod("b", ready_s=NOW - 5)
    state(young, samples=answering("b"), roster=roster)
    assert counts(state(young, samples={}, roster=roster)) == (1, 0, 0)


def test_a_replica_that_is_never_scraped_counts_after_a_while_with_missing_metrics() -> None:
    found = state(pod("b", ready_s=NOW - 91), samples=answering("other"))
    assert counts(found) == (1, 0, 0)
    assert isinstance(found.reading, Missing)
    assert found.reading.reason == "NoSeries"


def test_ready_pods_count_while_prometheus_is_down() -> None:
    found = state(pod("b", ready_s=NOW - 5), samples=DOWN)
    assert counts(found) == (1, 0, 0)
    assert found.reading == DOWN


def test_a_sleeping_engine_is_no_capacity() -> None:
    asleep = PodSample(values={"running": 0.0, "asleep": 1.0}, age_s=3.0)
    assert counts(state(pod("a"), samples={("prod", "a"): asleep})) == (0, 1, 0)


def test_a_tier_without_a_ready_replica_says_so_while_prometheus_is_down_too() -> None:
    assert state(pod("a", ready_s=None), samples=DOWN).reading == Missing(reason="NoReplicas")


def test_a_tier_without_a_workload_says_so() -> None:
    roster = Roster(window_s=60.0, stale_s=60.0)
    found = roster.states({TIER: TierView(pods=(), wanted=None)}, {}, time_s=NOW)[TIER]
    assert found.reading == Missing(reason="NoWorkload", detail="the tier's workload does not exist")


def test_start_up_is_the_median_of_the_newest_three() -> None:
    starts = [(50.0, 1), (60.0, 2), (100.0, 3), (70.0, 4)]
    pods = [pod(f"p{i}", created_s=NOW - 900 + i, ready_s=NOW - 900 + i + took_s) for took_s, i in starts]
    assert state(*pods).startup_s == pytest.approx(70.0)


def test_a_flapping_probe_is_not_a_start() -> None:
    roster = Roster(window_s=60.0, stale_s=60.0)
    assert state(pod("a", created_s=NOW - 600, ready_s=NOW - 500), roster=roster).startup_s == 100.0
    assert state(pod("a", created_s=NOW - 600, ready_s=NOW - 10), roster=roster).startup_s == 100.0


DAY = 86_400.0


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(
            pod("a", created_s=NOW - 3 * DAY, ready_s=NOW - 3600), None, id="a probe that flapped an hour ago"
        ),
        pytest.param(pod("a", created_s=NOW - 3 * DAY, ready_s=NOW - 3 * DAY + 120), 120.0, id="ready since its start"),
        pytest.param(
            pod("a", created_s=NOW - 900, ready_s=NOW - 60, restarts=1), None, id="its server was started anew"
        ),
    ],
)
def test_after_a_restart_of_the_operator_only_a_start_is_learned_as_one(seen: PodView, expected: float | None) -> None:
    assert state(seen).startup_s == expected


def test_a_flap_during_a_restart_of_the_operator_is_not_a_start() -> None:
    roster, old = Roster(window_s=60.0, stale_s=60.0), pod("a", created_s=NOW - 3 * DAY, ready_s=None)
    state(old, roster=roster)
    again = replace(old, ready=True, ready_s=NOW + 10)
    assert state(again, roster=roster, at=NOW + 15).startup_s is None


@pytest.mark.parametrize(
    ("took_s", "expected"),
    [
        pytest.param(2400.0, 2400.0, id="a slow start that was seen from its beginning"),
        pytest.param(3 * DAY, 3600.0, id="three days of waiting for room are no start-up"),
    ],
)
def test_an_observed_start_is_learned(took_s: float, expected: float) -> None:
    roster, young = Roster(window_s=60.0, stale_s=60.0), pod("a", created_s=NOW - 5, ready_s=None)
    state(young, roster=roster)
    ready_s = young.created_s + took_s
    assert state(replace(young, ready=True, ready_s=ready_s), roster=roster, at=ready_s + 5).startup_s == expected


def test_a_start_after_crashes_is_learned_only_while_no_other_was_seen() -> None:
    """The model hub was down for forty minutes; the next replica will not wait for that."""
    roster, young = Roster(window_s=60.0, stale_s=60.0), pod("a", created_s=NOW - 5, ready_s=None)
    state(young, roster=roster)
    late = replace(young, ready=True, ready_s=NOW + 2400, restarts=7, life="uid-a/7")
    assert state(late, roster=roster, at=NOW + 2405).startup_s == 2405.0
    again = pod("b", created_s=NOW + 2405, ready_s=None)
    assert state(late, again, roster=roster, at=NOW + 2410).startup_s == 2405.0
    again = replace(again, ready=True, ready_s=NOW + 2500)
    assert state(late, again, roster=roster, at=NOW + 2505).startup_s == 95.0


def test_learned_start_up_times_outlive_the_pods() -> None:
    roster = Roster(window_s=60.0, stale_s=60.0)
    state(pod("a"), roster=roster)
    assert state(wanted=0, roster=roster).startup_s == 100.0


def test_arrivals_at_a_removed_replica_are_not_lost() -> None:
    roster, both = Roster(window_s=60.0, stale_s=60.0), answering("a", "b")
    first = state(pod("a"), pod("b"), samples=both, roster=roster).reading
    second = state(pod("a"), samples=both, roster=roster, at=NOW + 15, wanted=1).reading
    late = state(pod("a"), samples=both, roster=roster, at=NOW + 76, wanted=1).reading
    assert isinstance(first, TierReading)
    assert isinstance(second, TierReading)
    assert isinstance(late, TierReading)
    assert (first.arrival_rps, second.arrival_rps, late.arrival_rps) == (2.0, 2.0, 1.0)
    assert second.running == 1.0, "but it holds nothing that a survivor has"


def test_memory_of_tiers_that_are_gone_is_dropped() -> None:
    roster = Roster(window_s=60.0, stale_s=60.0)
    state(pod("a"), samples=answering("a"), roster=roster)
    roster.states({}, {}, time_s=NOW)
    assert state(wanted=0, roster=roster).startup_s is None
