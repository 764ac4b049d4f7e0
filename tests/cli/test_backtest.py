"""`tidegate backtest`: manifests and traffic in, a table or JSON out, clear errors."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tidegate.cli import main

MANIFEST = """
apiVersion: tidegate.io/v1alpha1
kind: AcceleratorClass
metadata: {name: nvidia-l40s}
spec: {resourceName: nvidia.com/gpu, pricePerHour: "1.20", capacity: 8}
---
apiVersion: tidegate.io/v1alpha1
kind: InferenceDeployment
metadata: {name: chat, namespace: prod}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  minReplicas: 1
  maxReplicas: 6
  slo: {ttftMilliseconds: 1500, itlMilliseconds: 60, attainment: "0.95"}
  tiers:
  - {name: bf16, quality: "1", accelerator: nvidia-l40s, acceleratorsPerReplica: 1}
  - {name: fp8, quality: "0.995", accelerator: nvidia-l40s, acceleratorsPerReplica: 1}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "chat.yaml"
    path.write_text(MANIFEST)
    return str(path)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "day.csv"
    lines = [f"{i * 0.5},{400 + i % 7 * 50},{80 + i % 5 * 20}" for i in range(600)]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *lines]))
    return str(path)


QUICK = ("--policy", "static")


def backtest(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["backtest", *arguments])


def figures(result: Result) -> dict[str, dict[str, object]]:
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}


def test_a_file_of_traffic_is_replayed_and_scored(manifest: str, trace: str) -> None:
    found = figures(
        backtest("-f", manifest, "--trace", trace, "--policy", "tidegate,slo-keda@fp8,clairvoyant", "--output", "json")
    )
    assert list(found) == ["tidegate", "slo-keda@fp8", "clairvoyant"]
    assert found["clairvoyant"]["cost_vs_clairvoyant"] == 1.0
    for row in found.values():
        assert row["attainment"] == pytest.approx(1.0, abs=0.05)
        assert row["parts"]["prod/chat"]["requests"] == 600  # type: ignore[index]


def test_the_table_names_every_policy_and_marks_what_missed(manifest: str) -> None:
    result = backtest("-f", manifest, "--trace", "steady:40:0.2:chat", "--policy", "static,fluid", "--startup", "30")
    assert result.exit_code == 0
    for word in ("attainment", "static", "fluid", "prod/chat"):
        assert word in result.output


def test_money_is_in_the_currency_of_the_classes(tmp_path: Path, trace: str) -> None:
    path, page = tmp_path / "chat.yaml", tmp_path / "out.html"
    path.write_text(MANIFEST.replace('"1.20"', '"1.20", currency: EUR'))
    asked = ("-f", str(path), "--trace", trace, "--hours", "0.05", "--policy", "tidegate,static")
    result = backtest(*asked, "--report", str(page))
    assert result.exit_code == 0, result.output
    assert "EUR/M good tok" in result.output
    data = page.read_text().partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(data)["currency"] == "EUR"
    assert "$" not in result.output + data
    assert {row["currency"] for row in figures(backtest(*asked, "--output", "json")).values()} == {"EUR"}


def test_classes_in_several_currencies_are_refused_and_not_added_up(tmp_path: Path, trace: str) -> None:
    other = 'metadata: {name: nvidia-a10}\nspec: {pricePerHour: "1", currency: EUR}\n'
    path = tmp_path / "chat.yaml"
    second = MANIFEST.replace('"0.995", accelerator: nvidia-l40s', '"0.995", accelerator: nvidia-a10')
    path.write_text(f"apiVersion: tidegate.io/v1alpha1\nkind: AcceleratorClass\n{other}---{second}")
    result = backtest("-f", str(path), "--trace", trace)
    assert result.exit_code == 1
    assert "invalid value 'EUR, USD': must be one currency for all tiers" in result.output


def test_the_same_seed_prints_the_same_and_another_seed_does_not(manifest: str) -> None:
    arguments = ("-f", manifest, "--trace", "bursty:3:0.3:chat", "--policy", "slo-keda@fp8", "--output", "json")
    first, again, other = (backtest(*arguments, "--seed", s).stdout for s in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_slower_replicas_than_the_priors_say_attain_less_on_the_same_fleet(manifest: str) -> None:
    arguments = ("-f", manifest, "--trace", "steady:6:0.3:chat", "--policy", "hpa-gpu@bf16", "--output", "json")
    fast, slow = (figures(backtest(*arguments, "--truth", t))["hpa-gpu@bf16"] for t in ("1", "3"))
    assert float(str(slow["attainment"])) < float(str(fast["attainment"]))


def test_hours_cut_the_traffic(manifest: str) -> None:
    arguments = ("-f", manifest, "--trace", "steady:4:1:chat", "--policy", "slo-keda@fp8", "--output", "json")
    row = figures(backtest(*arguments, "--hours", "0.1"))["slo-keda@fp8"]
    assert row["parts"]["prod/chat"]["requests"] == pytest.approx(4 * 360, rel=0.1)  # type: ignore[index]


def test_one_scenario_of_the_suite_runs_alone() -> None:
    found = figures(backtest("--suite", "--scenario", "tight-itl", "--policy", "static,fluid", "--output", "json"))
    assert {row["scenario"] for row in found.values()} == {"tight-itl"}
    assert found["static"]["met"]


def test_list_names_policies_scenarios_and_shapes() -> None:
    result = backtest("--list")
    assert result.exit_code == 0
    for word in ("tidegate", "slo-keda", "burst-x4", "diurnal", "reasoning"):
        assert word in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--suite"),
        (("--prometheus", "http://127.0.0.1:1", "--trace", "steady:1:1"), "either"),
        (("--prometheus", "http://127.0.0.1:1"), "prometheus"),
        (("--prometheus", "http://127.0.0.1:1", "--from", "2026-01-02", "--to", "2026-01-01"), "minute before"),
        (("--trace", "nowhere.csv"), "nowhere.csv"),
        (("--trace", "steady:1"), "SHAPE:RPS:HOURS"),
        (("--trace", "steady:1:1:novels"), "LENGTHS must be one of chat"),
        (("--trace", "other=steady:1:1"), "chat=FILE"),
        (("--trace", "steady:1:1", "--trace", "chat=steady:2:1"), "already has a trace"),
        (("--trace", "steady:1:1", "--policy", ","), "must name at least one policy"),
        (("--trace", "steady:1:1", "--policy", "nobody"), "nobody"),
        (("--trace", "steady:1:1", "--policy", "slo-keda@int4"), "bf16, fp8"),
        (("--trace", "steady:1:1", "--truth", "0"), "above 0"),
        (("--trace", "steady:1:1", "--truth", "inf"), "finite"),
        (("--trace", "steady:1:1", "--hours", "nan"), "finite"),
        (("--trace", "steady:1:1", "--seed", "-1"), "--seed"),
        (("--trace", "steady:inf:1"), "finite"),
        (("--trace", "steady:0.001:0.01"), "at least one request"),
        (("--prometheus", "http://[::1"), "must be http://HOST"),
        (("--trace", "steady:1:1", "--report", "nowhere/r.html"), "'nowhere' is not a writable folder"),
        (("--trace", "steady:1:1", "--from", "2026-01-01", "--to", "2026-01-02"), "--from, --to: only with --prom"),
        (("--trace", "steady:1:1", "--seeds", "1,2", "--jobs", "2"), "--seeds, --jobs: only with --suite"),
        (
            ("--suite", "--truth", "1.3", "--startup", "9", "--hours", "1", "--trace", "x", "--prometheus", "http://x"),
            "--filename, --trace, --prometheus, --truth, --startup, --hours: not with --suite",
        ),
    ],
    ids=[
        "no traffic", "traffic from two places", "nobody answers", "an end before its start",
        "a file that is not there", "a shape without hours", "unknown lengths", "an unknown deployment",
        "a second trace", "no policy",
        "an unknown policy", "an unknown tier", "a truth of zero", "a truth without end", "hours that are no number",
        "a seed below zero", "a rate without end", "a shape without a request", "an address that is none",
        "a report into a folder that is not there", "times beside a trace", "options of the suite",
        "options beside the suite",
    ],
)  # fmt: skip
def test_errors_are_one_line(manifest: str, arguments: tuple[str, ...], said: str) -> None:
    result = backtest("-f", manifest, *arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert isinstance(result.exception, SystemExit), "no traceback"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scenario", "nothing"), "steady"),
        (("--seeds", "1,-2"), "whole numbers, 0 or more"),
        (("--seeds", "1,2", "--seed", "3"), "--seed: not with --seeds"),
        (("--rows", "nowhere/rows.jsonl"), "'nowhere' is not a writable folder"),
    ],
    ids=["an unknown scenario", "a seed below zero", "a seed and seeds", "rows into a folder that is not there"],
)
def test_errors_of_the_suite_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = backtest("--suite", *arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert isinstance(result.exception, SystemExit), "no traceback"


def test_options_given_with_list_are_named() -> None:
    result = backtest("--list", "--suite", "--seed", "1")
    assert result.exit_code == 2
    assert "--seed, --suite: not with --list" in result.output


@pytest.mark.parametrize("prefix", ["", "chat=", "prod/chat="])
def test_a_folder_may_have_an_equals_sign_in_its_name(manifest: str, trace: str, prefix: str) -> None:
    folder = Path(trace).parent / "day=1"
    folder.mkdir()
    moved = Path(trace).rename(folder / "a.csv")
    found = figures(backtest("-f", manifest, "--trace", f"{prefix}{moved}", *QUICK, "--output", "json"))
    assert found["static"]["parts"]["prod/chat"]["requests"] == 600  # type: ignore[index]


@pytest.mark.parametrize("traces", [["chat=steady:1:1"], ["prod/chat=steady:1:1"]], ids=["either's", "one's alone"])
def test_deployments_of_the_same_name_get_traces_by_namespace(tmp_path: Path, manifest: str, traces: list[str]) -> None:
    other = tmp_path / "dev.yaml"
    other.write_text(MANIFEST.split("---")[1].replace("namespace: prod", "namespace: dev"))
    result = backtest("-f", manifest, "-f", str(other), *(word for text in traces for word in ("--trace", text)))
    assert result.exit_code != 0
    assert "dev/chat=FILE" in result.output


def test_a_long_name_is_shown_whole(tmp_path: Path, trace: str) -> None:
    path, name = tmp_path / "long.yaml", "chat-" + "x" * 50
    path.write_text(MANIFEST.replace("name: chat, namespace: prod", f"name: {name}, namespace: prod-{name}"))
    result = backtest("-f", str(path), "--trace", trace, *QUICK)
    assert f"prod-{name}/{name}" in result.output


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="a disk that is always full is Linux's")
def test_a_full_disk_is_told_in_one_line_after_the_table(manifest: str, trace: str, tmp_path: Path) -> None:
    (tmp_path / "r.html").symlink_to(FULL)
    result = backtest("-f", manifest, "--trace", trace, *QUICK, "--report", str(tmp_path / "r.html"))
    assert result.exit_code == 1
    assert "attainment" in result.output
    assert result.output.splitlines()[-1].endswith("r.html: NotWritten: No space left on device")


HEADER = "arrival_s,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEADER.encode() + b"0,\xff,3\n", "UTF-8"),
        (HEADER.encode(), "at least one request"),
        (b"", "the columns"),
        (b"0,300,20\n", "the columns"),
    ],
    ids=["no UTF-8", "no request", "nothing", "no header"],
)
def test_a_file_that_is_no_traffic_is_told(manifest: str, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    result = backtest("-f", manifest, "--trace", str(path))
    assert result.exit_code == 1
    assert said in result.output


def test_one_request_is_enough_and_a_byte_order_mark_is_skipped(manifest: str, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_bytes(("\ufeff" + HEADER + "0,300,20\n").encode())
    row = figures(backtest("-f", manifest, "--trace", str(path), "--policy", "slo-keda@fp8", "--output", "json"))
    assert row["slo-keda@fp8"]["parts"]["prod/chat"]["requests"] == 1  # type: ignore[index]


def test_a_manifest_without_its_accelerator_says_which(tmp_path: Path) -> None:
    alone = tmp_path / "alone.yaml"
    alone.write_text(MANIFEST.split("---")[1])
    result = backtest("-f", str(alone), "--trace", "steady:1:1")
    assert result.exit_code != 0
    assert "nvidia-l40s" in result.output


def test_several_engines_in_a_replica_are_refused_and_not_taken_for_one(tmp_path: Path, trace: str) -> None:
    path = tmp_path / "engines.yaml"
    asked = 'accelerator: nvidia-l40s, acceleratorsPerReplica: 2, workload: {image: "vllm", args: ["-dp", "2"]}}'
    path.write_text(MANIFEST.replace("accelerator: nvidia-l40s, acceleratorsPerReplica: 1}", asked, 1))
    result = backtest("-f", str(path), "--trace", trace)
    assert result.exit_code != 0
    assert "--data-parallel-size: invalid value 2: must be 1: a simulated replica is one engine" in result.output
