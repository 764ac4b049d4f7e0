"""The plan protocol: it gives the decisions that the operator would make in a cluster."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.ticks import SPEC, START_S, asked, chat, deployment, observation, replicas, spec, tick, tier
from tidegate.cli.plan.stream import Stream
from tidegate.memory import DeploymentMemory, FleetMemory

GOLDEN = Path(__file__).parent / "golden"
# `TIDEGATE_GOLDEN=write python -m pytest tests/cli` writes the answers anew; look at the difference before you keep it.
WRITE = os.environ.get("TIDEGATE_GOLDEN") == "write"


def started(*more: object, **fields: object) -> Stream:
    """A stream that has seen one good tick of the chat deployment."""
    stream = Stream()
    first = asked(stream, tick(0, chat(spec=SPEC), *more, **fields))
    assert "error" not in first
    return stream


@pytest.mark.parametrize("journal", sorted(GOLDEN.glob("*.in.jsonl")), ids=lambda path: path.name.split(".")[0])
def test_a_journal_gives_the_recorded_plans(journal: Path) -> None:
    stream = Stream()
    answers = b"".join(stream.answer(line) for line in journal.read_bytes().splitlines())
    recorded = journal.with_name(journal.name.replace(".in.", ".out."))
    if WRITE:
        recorded.write_bytes(answers)
    for got, wanted in zip(answers.splitlines(), recorded.read_bytes().splitlines(), strict=True):
        assert json.loads(got) == json.loads(wanted)
    assert answers == recorded.read_bytes()


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        pytest.param({"minReplicas": 6, "maxReplicas": 8}, 6, 8, id="it raises both"),
        pytest.param({"maxReplicas": 2}, 1, 2, id="it lowers the upper one"),
    ],
)
def test_a_schedule_moves_the_bounds_of_a_tier_that_has_none(bounds: dict[str, int], low: int, high: int) -> None:
    always = {"name": "peak", "cron": "* * * * *", "durationSeconds": 3600, **bounds}
    wanted = spec(maxReplicas=4, tiers=[SPEC["tiers"][0]], schedules=[always])
    plan = asked(Stream(), tick(0, deployment(tiers={"bf16": tier(2, rate=2.0)}, spec=wanted)))["deployments"][0]
    assert low <= replicas(plan)["bf16"] <= high


def test_the_command_answers_each_line_before_it_reads_the_next() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tidegate", "plan", "--stream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, line in enumerate([tick(0, chat(spec=SPEC)), b"nonsense", tick(1, chat())]):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert ("error" in answer) == (number == 1)
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def journey(ticks: int, seed: int = 1) -> list[bytes]:
    """A day in short: load that wanders, metrics that go missing, replicas that follow late."""
    draw, lines, rate = random.Random(seed), [], 8.0
    for number in range(ticks):
        rate = min(max(rate * draw.lognormvariate(0.0, 0.2), 0.5), 60.0)
        seen = None if number % 17 == 9 else round(rate, 3)
        sent = {"spec": SPEC} if number == 0 else {}
        lines.append(tick(number, chat(seen, ready=1 + number // 20, **sent)))
    return lines


def test_same_input_same_bytes() -> None:
    one, other = Stream(), Stream()
    for line in journey(60):
        assert one.answer(line) == other.answer(line)


def test_a_restart_through_the_memory_changes_no_answer() -> None:
    lines, stream = journey(80), Stream()
    before = [stream.answer(line) for line in lines[:50]]
    saved = {key: json.dumps(memory.to_json()) for key, memory in stream.memory.deployments.items()}
    assert all(before)
    again = Stream(
        memory=FleetMemory(deployments={k: DeploymentMemory.from_json(json.loads(text)) for k, text in saved.items()}),
        wanted=dict(stream.wanted),
        time_s=stream.time_s,
    )
    for line in lines[50:]:
        assert again.answer(line) == stream.answer(line)


def test_memory_stays_small_enough_for_a_configmap() -> None:
    stream = Stream()
    for line in journey(200):
        stream.answer(line)
    for memory in stream.memory.deployments.values():
        assert len(json.dumps(memory.to_json(), separators=(",", ":"))) < 4096


BAD_LINES = [
    pytest.param(b"", "line", id="an empty line"),
    pytest.param(b"nonsense", "malformed", id="no JSON"),
    pytest.param(b"[1, 2]", "object", id="a list"),
    pytest.param(b"17", "object", id="a number"),
    pytest.param(b"null", "object", id="null"),
    pytest.param(b'{"time": 1716000100', "truncated", id="half a line"),
    pytest.param(b'{"deployments": []}', "time", id="no time"),
    pytest.param(b'{"time": "noon", "deployments": []}', "time", id="a time that is text"),
    pytest.param(b'{"time": NaN, "deployments": []}', "malformed", id="NaN, which JSON does not have"),
    pytest.param(b'{"time": 1e999, "deployments": []}', "", id="a time beyond all bounds"),
    pytest.param(b'{"time": -Infinity, "deployments": []}', "malformed", id="minus infinity"),
    pytest.param(b'{"time": 1716000100, "deployments": {}}', "deployments", id="deployments that are no list"),
    pytest.param(
        b'{"time": 1715999999, "deployments": []}', "must be after the previous", id="time that goes backwards"
    ),
    pytest.param(b'{"time": 1716000000, "deployments": []}', "must be after the previous", id="time that stands still"),
    pytest.param(b'{"time": 1716000100, "deployments": []}\xff', "", id="bytes that are no text"),
    pytest.param(b"[" * 100_000, "", id="brackets without end"),
]


@pytest.mark.parametrize(("line", "told"), BAD_LINES)
def test_a_bad_line_gets_an_error_and_changes_nothing(line: bytes, told: str) -> None:
    stream, untouched = started(), started()
    answer = asked(stream, line)
    assert told in answer["error"]
    assert answer["deployments"] == []
    assert stream.answer(tick(1, chat())) == untouched.answer(tick(1, chat()))


def seen(**changes: object) -> dict[str, Any]:
    """The chat deployment with one field of its observation changed."""
    return deployment(tiers={"bf16": tier(2) | {"observation": observation(10.0) | changes}, "fp8": tier()})


def counted(**changes: object) -> dict[str, Any]:
    return deployment(tiers={"bf16": tier(2, rate=10.0) | changes, "fp8": tier()})


BAD_DEPLOYMENTS = [
    pytest.param(chat(spec=spec(slo=None)), "spec.slo", id="no promise"),
    pytest.param(chat(spec=spec(tiers=[])), "spec.tiers", id="no tier"),
    pytest.param(chat(spec=spec(maxReplicas=-1)), "spec.maxReplicas", id="a bound below zero"),
    pytest.param(chat(spec=[1]), "spec", id="a spec that is a list"),
    pytest.param(
        chat(spec=spec(tiers=[SPEC["tiers"][0] | {"accelerator": "abacus"}])), "h100", id="an unknown accelerator"
    ),
    pytest.param(counted(ready=-1), "tiers[bf16].ready", id="replicas below zero"),
    pytest.param(counted(ready=1.5), "tiers[bf16].ready", id="half a replica"),
    pytest.param(counted(ready=None), "tiers[bf16].ready", id="replicas not told"),
    pytest.param(counted(starting=-2), "tiers[bf16].starting", id="starting below zero"),
    pytest.param(counted(terminating="one"), "terminating", id="a count that is text"),
    pytest.param(seen(window_s=0), "tiers[bf16].observation.window_s", id="a window without length"),
    pytest.param(seen(window_s=None), "tiers[bf16].observation.window_s", id="a window not told"),
    pytest.param(seen(running="many"), "running", id="a reading that is text"),
    pytest.param(seen(ttft_buckets=[1, 2]), "ttft_buckets", id="buckets that are a list"),
    pytest.param(deployment(tiers=[]), "tiers", id="tiers that are a list"),
    pytest.param(deployment(tiers={"bf16": 3}), "tiers", id="a tier that is a number"),
    pytest.param(deployment(gateway=7), "gateway", id="a gateway that is a number"),
]


@pytest.mark.parametrize(("bad", "told"), BAD_DEPLOYMENTS)
def test_a_bad_deployment_gets_an_error_and_the_rest_is_planned(bad: dict[str, Any], told: str) -> None:
    other = deployment("search", spec=SPEC, tiers={"bf16": tier(1, rate=3.0), "fp8": tier()})
    stream = started(other)
    answer = asked(stream, tick(1, bad, other))
    first, second = answer["deployments"]
    assert (first["namespace"], first["name"]) == ("prod", "chat")
    assert told in first["error"]
    assert "tiers" not in first
    assert replicas(second)
    # What was learned before the mistake is still there after it.
    assert asked(stream, tick(2, chat(spec=SPEC), other))["deployments"][0]["reason"] != "Initial"


@pytest.mark.parametrize("entry", [7, "chat", None, [], {}, {"name": 3}, {"namespace": "prod"}], ids=repr)
def test_an_entry_without_a_name_gets_an_error(entry: object) -> None:
    answer = asked(started(), tick(1, entry, chat()))
    assert "error" in answer["deployments"][1]
    assert replicas(answer["deployments"][0])


ODD_READINGS = [
    pytest.param({"arrival_rate": -3}, id="a negative rate"),
    pytest.param({"prompt_tokens_mean": None, "output_tokens_mean": None}, id="nothing finished"),
    pytest.param({"kv_cache_usage": 1.7, "gpu_utilization": 2.0}, id="shares above one"),
    pytest.param({"ttft_buckets": {}, "itl_buckets": None}, id="no buckets"),
    pytest.param({"ttft_buckets": {"soon": 3}, "itl_buckets": {"0.1": -4, "+Inf": 3}}, id="buckets that cannot be"),
    pytest.param({"ttft_buckets": {"+Inf": 5, "0.1": 3, "0.5": 2}}, id="buckets in no order that fall"),
    pytest.param({"age_s": None}, id="an age not told"),
    pytest.param({"invented": {"a": [1]}}, id="a field nobody knows"),
    pytest.param({name: None for name in observation(1.0) if name != "window_s"}, id="nothing known but the window"),
]


@pytest.mark.parametrize("odd", ODD_READINGS)
def test_an_odd_reading_is_unknown_and_no_reason_to_shrink(odd: dict[str, Any]) -> None:
    stream = started()
    plan = asked(stream, tick(1, seen(**odd)))["deployments"][0]
    assert "error" not in plan
    assert sum(replicas(plan).values()) >= 2


@pytest.mark.parametrize("nothing", ["output_tokens_mean", "prompt_tokens_mean"])
def test_requests_without_tokens_are_planned_for(nothing: str) -> None:
    """A pooling model (embeddings, scores) answers without a token."""
    stream = started()
    plans = [asked(stream, tick(i, seen(**{nothing: 0})))["deployments"][0] for i in range(1, 61)]
    assert not [plan["error"] for plan in plans if "error" in plan]


def test_a_reading_beyond_all_bounds_is_named() -> None:
    line = tick(1, seen(running=1e999)).replace(b"Infinity", b"1e999")
    assert "tiers[bf16]" in asked(started(), line)["deployments"][0]["error"]


def test_an_error_names_field_value_and_what_is_allowed() -> None:
    error = asked(started(), tick(1, seen(running="many")))["deployments"][0]["error"]
    assert error == (
        "tiers[bf16].observation.running: invalid value 'many': "
        "must follow the plan protocol: Expected `float | null`, got `str`"
    )


def test_a_spec_is_remembered_until_another_one_comes() -> None:
    stream = started()
    assert replicas(asked(stream, tick(1, chat()))["deployments"][0])
    pinned = asked(stream, tick(2, chat(spec=spec(replicas=5))))["deployments"][0]
    assert sum(replicas(pinned).values()) >= 5
    assert sum(replicas(asked(stream, tick(3, chat()))["deployments"][0]).values()) >= 5


def test_an_invalid_spec_stays_an_error_until_a_valid_one_comes() -> None:
    stream = started()
    assert "error" in asked(stream, tick(1, chat(spec=spec(tiers=[]))))["deployments"][0]
    assert "error" in asked(stream, tick(2, chat()))["deployments"][0]
    assert "error" not in asked(stream, tick(3, chat(spec=SPEC)))["deployments"][0]


def test_the_first_tick_of_a_deployment_needs_its_spec() -> None:
    answer = asked(Stream(), tick(0, chat()))
    assert "spec" in answer["deployments"][0]["error"]


def test_a_deployment_that_a_tick_does_not_list_is_gone() -> None:
    stream = started()
    assert asked(stream, tick(1))["deployments"] == []
    assert stream.memory.deployments == {}
    assert "spec" in asked(stream, tick(2, chat()))["deployments"][0]["error"]


@pytest.mark.parametrize(
    "tiers",
    [
        pytest.param({"bf16": tier(2, rate=10.0)}, id="a tier of the spec is not told"),
        pytest.param({"bf16": tier(2, rate=10.0), "fp8": tier(), "old": tier(1, rate=4.0)}, id="a tier that is gone"),
        pytest.param({}, id="no tier told"),
        pytest.param(None, id="tiers null"),
    ],
)
def test_a_plan_names_the_tiers_of_the_spec_whatever_the_tick_lists(tiers: dict[str, Any] | None) -> None:
    plan = asked(started(), tick(1, deployment(tiers=tiers)))["deployments"][0]
    assert set(plan["tiers"]) == {"bf16", "fp8"}


@pytest.mark.parametrize("quiet", [{"arrival_rate": 0.0, "queued": 0}, {"queued": 0}], ids=json.dumps)
def test_a_gateways_demand_alone_scales_up_from_zero(quiet: dict[str, Any]) -> None:
    zero = spec(minReplicas=0, scaleToZero={"idleSeconds": 60})
    nothing = {"bf16": tier(), "fp8": tier()}
    stream, number = Stream(), 0
    for number in range(8):
        idle = deployment(spec=zero, tiers=nothing, gateway=quiet)
        plan = asked(stream, tick(number, idle))["deployments"][0]
    assert sum(replicas(plan).values()) == 0
    called = deployment(tiers=nothing, gateway={"queued": 3})
    plan = asked(stream, tick(number + 1, called))["deployments"][0]
    assert sum(replicas(plan).values()) >= 1


def test_a_deployment_listed_twice_is_planned_once() -> None:
    answer = asked(started(), tick(1, chat(), chat(50.0)))
    assert replicas(answer["deployments"][0])
    assert "twice" in answer["deployments"][1]["error"]


def test_a_deployment_listed_twice_keeps_the_spec_of_the_first() -> None:
    stream = started()
    answer = asked(stream, tick(1, chat(spec=spec(maxReplicas=3)), chat(spec=spec(minReplicas=9))))
    assert sum(replicas(answer["deployments"][0]).values()) <= 3
    assert sum(replicas(asked(stream, tick(2, chat()))["deployments"][0]).values()) <= 3


FULL = [{"name": "h100", "pricePerHour": 3.0, "capacity": 8}]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"spec": spec(slo=None)}, id="its spec is wrong"),
        pytest.param({"tiers": {"bf16": {"ready": -1}}}, id="its replicas cannot be read"),
        pytest.param({"gateway": 7}, id="it cannot be read at all"),
    ],
)
def test_accelerators_of_a_deployment_that_cannot_be_planned_stay_reserved(change: dict[str, Any]) -> None:
    fixed = spec(minReplicas=4, maxReplicas=4, cost=None, tiers=[SPEC["tiers"][0]])
    free = spec(maxReplicas=24, cost=None, tiers=[SPEC["tiers"][0]])
    stream = Stream()
    here = deployment("here", tiers={"bf16": tier(4, rate=10.0)})
    other = deployment("other", tiers={"bf16": tier(2, rate=200.0)})
    asked(stream, tick(0, here | {"spec": fixed}, other | {"spec": free}, accelerators=FULL))
    for number in range(1, 4):
        first, second = asked(stream, tick(number, here | change, other, accelerators=FULL))["deployments"]
        assert first["error"]
        assert replicas(second)["bf16"] == 4, "8 accelerators, of which the broken one holds 4"


HUGE = 10**400


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        pytest.param(counted(ready=HUGE), "tiers[bf16].ready", id="replicas of 400 digits"),
        pytest.param(counted(starting=10**16), "tiers[bf16].starting", id="more replicas than anybody has"),
        pytest.param(counted(startup_s=HUGE), "tiers[bf16].startup_s", id="a start-up of 400 digits"),
        pytest.param(seen(arrival_rate=HUGE), "tiers[bf16].observation.arrival_rate", id="a rate of 400 digits"),
        pytest.param(seen(waiting=1e300), "tiers[bf16].observation.waiting", id="a queue beyond all measure"),
        pytest.param(seen(gpu_utilization=2e15), "tiers[bf16].observation.gpu_utilization", id="a share likewise"),
        pytest.param(
            seen(ttft_buckets={"1": 3, "+Inf": 1e16}), "tiers[bf16].observation.ttft_buckets", id="a count likewise"
        ),
        pytest.param(chat(gateway={"arrival_rate": HUGE}), "gateway.arrival_rate", id="a gateway's rate likewise"),
    ],
)
def test_a_huge_number_is_an_error_of_its_deployment(bad: dict[str, Any], field: str) -> None:
    other = deployment("search", spec=SPEC, tiers={"bf16": tier(1, rate=3.0), "fp8": tier()})
    first, second = asked(started(other), tick(1, bad, other))["deployments"]
    assert first["error"].startswith(field + ": ")
    assert len(first["error"]) < 300
    assert replicas(second)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        pytest.param({"name": "h100", "pricePerHour": HUGE}, "pricePerHour", id="price"),
        pytest.param({"name": "h100", "pricePerHour": 3, "capacity": HUGE}, "capacity", id="capacity"),
    ],
)
def test_a_class_with_a_number_of_400_digits_is_told_and_the_tick_is_planned(entry: object, field: str) -> None:
    mine = {"name": "l40s", "pricePerHour": 1.2}
    cheap = spec(tiers=[SPEC["tiers"][0] | {"accelerator": "l40s"}])
    answer = asked(Stream(), tick(0, chat(spec=SPEC), deployment("b", spec=cheap), accelerators=[entry, mine]))
    assert f"accelerators[h100].{field}: " in answer["deployments"][0]["error"]
    assert replicas(answer["deployments"][1])


def test_a_time_of_400_digits_is_an_error_of_its_line() -> None:
    assert asked(started(), b'{"time": %d, "deployments": []}' % HUGE)["error"].startswith("time: ")


@pytest.mark.parametrize("gateway", [{"arrival_rate": None, "queued": 0}, {"queued": 4}], ids=json.dumps)
def test_an_unknown_gateway_rate_is_not_zero_demand(gateway: dict[str, Any]) -> None:
    stream, number = started(), 0
    for number in range(1, 20):
        asked(stream, tick(number, chat(10.0)))
    for later in range(number + 1, number + 60):
        plan = asked(stream, tick(later, chat(None, gateway=gateway)))["deployments"][0]
    assert plan["forecast"]["arrival_rate"] >= 8.0, "nothing was seen since: what was known stands"
    assert plan["reason"] == "Fallback"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        pytest.param({"name": "h100", "pricePerHour": -1}, "pricePerHour", id="a negative price"),
        pytest.param({"name": "h100", "pricePerHour": "much"}, "pricePerHour", id="a price that is a word"),
        pytest.param({"name": "h100", "pricePerHour": 3, "capacity": -4}, "capacity", id="a negative capacity"),
        pytest.param({"name": "h100"}, "pricePerHour", id="no price"),
        pytest.param("h100", "accelerator", id="a class that is text"),
    ],
)
def test_an_invalid_class_is_an_error_of_the_deployments_that_use_it(entry: object, told: str) -> None:
    answer = asked(started(), tick(1, chat(), accelerators=[entry]))
    assert told in answer["deployments"][0]["error"]


@pytest.mark.parametrize("price", [3, 3.0, "3.00"], ids=repr)
@pytest.mark.parametrize("capacity", [16, 16.0, None], ids=repr)
def test_numbers_may_be_whole_or_not(price: object, capacity: object) -> None:
    classes = [{"name": "h100", "pricePerHour": price, "capacity": capacity}]
    plan = asked(Stream(), tick(0, chat(spec=SPEC), accelerators=classes))["deployments"][0]
    assert plan["predicted"]["cost_per_hour"] == pytest.approx(3.0 * sum(replicas(plan).values()))


def test_classes_are_kept_until_a_tick_lists_others() -> None:
    stream = started()
    line = json.dumps({"time": START_S + 15, "deployments": [chat()]}).encode()
    assert replicas(asked(stream, line)["deployments"][0])


def test_a_plan_has_the_fields_of_the_protocol_and_no_others() -> None:
    answer = asked(started(), tick(1, chat()))
    plan = answer["deployments"][0]
    assert list(answer) == ["time", "deployments"]
    assert answer["time"] == START_S + 15
    assert set(plan) == {"namespace", "name", "tiers", "reason", "message", "forecast", "predicted", "conditions"}
    assert set(plan["forecast"]) == {"arrival_rate", "horizon_s"}
    assert set(plan["predicted"]) == {
        "ttft_p95_s",
        "itl_p95_s",
        "attainment",
        "cost_per_hour",
        "cost_per_million_output_tokens",
    }
    assert set(plan["tiers"]) == {"bf16", "fp8"}
    assert {"SLOMet", "WithinBudget", "MetricsAvailable"} <= set(plan["conditions"])
    assert set(plan["conditions"].values()) <= {"True", "False", "Unknown"}
