"""From YAML to the core's types: units, defaults, and errors that name the field."""

from pathlib import Path

import pytest
import yaml

from tests.api.manifests import ACCELERATOR, GOOD, MINIMAL, Absent, changed
from tidegate.api import convert, manifests
from tidegate.api.documents import documents
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec, Mode, Quality, ScaleToZero, Schedule, TargetRef
from tidegate.errors import SpecError

KEY = Key("prod", "chat")


def parsed(text: str = GOOD, *, offline: bool = False, **changes: object) -> DeploymentSpec:
    return convert.deployment_spec(KEY, changed(text, changes)["spec"], offline=offline)


def test_units_are_converted_once() -> None:
    spec = parsed()
    assert (spec.slo.ttft_s, spec.slo.itl_s, spec.slo.attainment) == (0.5, 0.04, 0.99)
    assert spec.cost == Cost(budget_usd_per_hour=40.0, target_usd_per_million_output_tokens=0.5)
    assert spec.quality == Quality(minimum=0.95, average_minimum=0.99)
    assert spec.scale_to_zero == ScaleToZero(idle_s=900.0, activation_query="sum(rate(gateway_requests_total[1m]))")
    assert spec.schedules == (
        Schedule(name="office", cron="0 7 * * 1-5", time_zone="Europe/Berlin", duration_s=43200.0, replicas_min=4),
    )


def test_coefficients_are_in_seconds_per_token() -> None:
    hint = parsed().tier("bf16").hint
    assert hint.a_s == pytest.approx(6.37e-3)
    assert hint.b_s == pytest.approx(1.08e-5)
    assert hint.c_s == pytest.approx(4.16e-8)
    assert hint.p0_s == pytest.approx(3.6e-3)
    assert hint.p1_s == pytest.approx(2.08e-5)
    assert (hint.kv_cache_tokens, hint.running_max) == (448_000.0, 256.0)


def test_defaults_are_those_of_the_schema() -> None:
    spec = parsed(MINIMAL)
    assert (spec.mode, spec.replicas_min, spec.replicas_max, spec.replicas_pinned) == (Mode.AUTO, 1, 100, None)
    assert (spec.scale_down_window_s, spec.quality, spec.cost) == (300.0, Quality(), Cost())
    tier = spec.tier("only")
    assert (tier.quality, tier.accelerators_per_replica, tier.replicas_min, tier.replicas_max) == (1.0, 1, 0, 100)
    assert tier.target_ref == TargetRef(api_version="apps/v1", kind="Deployment", name="chat")


def test_what_belongs_to_kubernetes_is_passed_on() -> None:
    workload = parsed().tier("bf16").workload
    assert workload is not None
    assert workload.args == ("--max-model-len", "8192")
    assert workload.env[1] == {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}
    assert workload.resources == {"requests": {"cpu": 8, "memory": "64Gi"}}
    assert workload.pod_template == {"spec": {"priorityClassName": "serving"}}


def test_a_tier_without_a_maximum_has_the_deployments() -> None:
    assert parsed().tier("fp8").replicas_max == 24


@pytest.mark.parametrize(
    ("scheduled", "most"),
    [pytest.param(30, 30, id="a schedule raises it"), pytest.param(8, 24, id="a schedule lowers it for a while")],
)
def test_a_tier_without_a_maximum_may_use_the_highest_bound_of_a_schedule(scheduled: int, most: int) -> None:
    found = parsed(**{"spec.schedules.0.maxReplicas": scheduled})
    assert (found.tier("fp8").replicas_max, found.tier("bf16").replicas_max) == (most, 20)


def test_without_an_average_the_minimum_is_the_average() -> None:
    assert parsed(**{"spec.quality.averageMinimum": Absent}).quality == Quality(minimum=0.95, average_minimum=0.95)


def test_an_accelerator_is_known_by_its_product() -> None:
    assert convert.accelerator("nvidia-h100", changed(ACCELERATOR, {})["spec"]) == Accelerator(
        name="nvidia-h100",
        price_usd_per_hour=3.0,
        capacity=64,
        memory_gib=80.0,
        board_power_w=700.0,
        product="NVIDIA-H100-80GB-HBM3",
        resource_name="nvidia.com/gpu",
        node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    )


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        pytest.param(
            {"spec.schedules.0.timeZone": "Mars/Base"}, "spec.schedules[0].timeZone", "Mars/Base", id="a zone"
        ),
        pytest.param({"spec.schedules.0.timeZone": "Europe"}, "spec.schedules[0].timeZone", "Europe", id="half a zone"),
        pytest.param({"spec.schedules.0.cron": "0 25 * * *"}, "spec.schedules[0].cron", "0 25 * * *", id="an hour"),
        pytest.param({"spec.schedules.0.cron": "0 7 31 2 *"}, "spec.schedules[0].cron", "0 7 31 2 *", id="a date"),
        pytest.param(
            {"spec.tiers.1.targetRef.name": "chat-bf16"},
            "spec.tiers[1].targetRef.name",
            "chat-bf16",
            id="a target that another tier's Deployment is",
        ),
    ],
)
def test_errors_that_no_schema_can_express_are_reported(changes: dict[str, object], field: str, value: str) -> None:
    with pytest.raises(SpecError) as caught:
        parsed(**changes)
    assert (caught.value.field, caught.value.value) == (field, value)


def test_a_long_value_is_cut_within_one_pair_of_quotes() -> None:
    with pytest.raises(SpecError) as caught:
        parsed(**{"spec.mode": "x" * 100})
    assert str(caught.value).startswith(f"spec.mode: invalid value '{'x' * 60}...': must be")


# Without a cluster


def test_numbers_may_replace_decimal_strings() -> None:
    spec = parsed(
        offline=True, **{"spec.slo.attainment": 0.95, "spec.cost.budgetPerHour": 12, "spec.slo.ttftMilliseconds": 250.0}
    )
    assert (spec.slo.attainment, spec.cost.budget_usd_per_hour, spec.slo.ttft_s) == (0.95, 12.0, 0.25)


def test_small_numbers_keep_their_precision() -> None:
    spec = parsed(offline=True, **{"spec.tiers.0.performance.decodePer1kContextMilliseconds": 5e-05})
    assert spec.tier("bf16").hint.c_s == pytest.approx(5e-11)


@pytest.mark.parametrize(("value", "read"), [(3 * 12.34, 37.02), (1 / 3, 0.333333333)])
def test_numbers_that_a_script_computed_are_rounded_to_nine_decimals(value: float, read: float) -> None:
    assert parsed(offline=True, **{"spec.cost.budgetPerHour": value}).cost.budget_usd_per_hour == read


def test_tiers_need_no_pods() -> None:
    tier = parsed(offline=True, **{"spec.tiers.1.targetRef": Absent}).tier("fp8")
    assert (tier.workload, tier.target_ref) == (None, None)


def test_without_scale_to_zero_a_minimum_of_zero_is_read_as_one() -> None:
    spec = parsed(offline=True, **{"spec.minReplicas": 0, "spec.scaleToZero": Absent})
    assert spec.replicas_min == 1


def test_scale_to_zero_may_keep_a_minimum_for_when_it_is_awake() -> None:
    assert parsed(**{"spec.minReplicas": 0}).replicas_min == 0


@pytest.mark.parametrize("spec", [None, [], "spec", 3], ids=["nothing", "a list", "a text", "a number"])
def test_a_spec_that_is_no_object_is_refused(spec: object) -> None:
    with pytest.raises(SpecError):
        convert.deployment_spec(KEY, spec, offline=True)


# Files


def test_a_file_holds_many_documents(tmp_path: Path) -> None:
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
    path = tmp_path / "fleet.yaml"
    path.write_text("---\n".join([ACCELERATOR, other, GOOD.replace("name: chat}", "name: chat, namespace: prod}"), ""]))
    found = manifests.load(path)
    assert list(found.accelerators) == ["nvidia-h100"]
    assert list(found.deployments) == [KEY]


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ACCELERATOR)
    (tmp_path / "b.yml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("not: [yaml")
    found = manifests.load(tmp_path)
    assert (list(found.accelerators), list(found.deployments)) == (["nvidia-h100"], [Key("default", "chat")])


def test_a_list_is_its_items() -> None:
    items = [yaml.safe_load(text) for text in (ACCELERATOR, GOOD)]
    found = manifests.loads(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    assert (len(found.accelerators), len(found.deployments)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"spec.slo.ttft": 500})),
            "fleet.yaml: InferenceDeployment chat: spec.slo.ttft: unknown field",
            id="a field that does not exist",
        ),
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"spec.tiers.0.qualty": "1"})),
            "fleet.yaml: InferenceDeployment chat: spec.tiers[0].qualty: unknown field",
            id="a typing error in a list",
        ),
        pytest.param(
            yaml.safe_dump(changed(ACCELERATOR, {"spec.pricePerHour": "free"})),
            "fleet.yaml: AcceleratorClass nvidia-h100: spec.pricePerHour: invalid value 'free': must match",
            id="a value that is wrong",
        ),
        pytest.param("a: [", "fleet.yaml: must be valid YAML", id="no YAML"),
        pytest.param("a: " + "9" * 5000, "fleet.yaml: must be valid YAML", id="a number too long"),
        pytest.param(
            GOOD.replace("v1alpha1", "v1"),
            "fleet.yaml: InferenceDeployment chat: "
            "apiVersion: invalid value 'tidegate.io/v1': must be tidegate.io/v1alpha1",
            id="a version that does not exist",
        ),
        pytest.param(
            GOOD.replace("kind: InferenceDeployment", "kind: inferencedeployment"),
            "fleet.yaml: inferencedeployment chat: "
            "kind: invalid value 'inferencedeployment': must be InferenceDeployment or",
            id="a kind that does not exist",
        ),
        pytest.param(
            "apiVersion: tidegate.io/v1alpha1\nkind: [x]\n",
            "fleet.yaml: document 1: kind: invalid value ['x']: must be",
            id="a kind that is a list",
        ),
        pytest.param(
            "a: 1\n---\nkind: AcceleratorClass\n",
            "fleet.yaml: document 2: apiVersion: must be tidegate.io/v1alpha1",
            id="no version",
        ),
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"metadata.namspace": "prod"})),
            "fleet.yaml: InferenceDeployment chat: metadata.namspace: unknown field",
            id="a typing error in the metadata",
        ),
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"spce": {}})),
            "fleet.yaml: InferenceDeployment chat: spce: unknown field",
            id="a typing error at the top",
        ),
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"spec.maxReplicas": "24"})),
            "fleet.yaml: InferenceDeployment chat: spec.maxReplicas: invalid value '24': must be a valid int",
            id="a count that is text",
        ),
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"spec.minReplicas": True})),
            "fleet.yaml: InferenceDeployment chat: spec.minReplicas: invalid value True: must be a valid int",
            id="a count that is a switch",
        ),
        pytest.param(
            "apiVersion: tidegate.io/v1alpha1\nkind: InferenceDeployment\nmetadata: {name: x}\nspec: 2024-13-45\n",
            "fleet.yaml: InferenceDeployment x: spec: invalid value '2024-13-45': must be a mapping",
            id="a date that does not exist",
        ),
        pytest.param(
            GOOD + "---\n" + GOOD,
            "fleet.yaml: InferenceDeployment chat: metadata.name: invalid value 'default/chat': already defined in",
            id="an object that is there twice",
        ),
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"spec.mode": False})),
            "fleet.yaml: InferenceDeployment chat: spec.mode: invalid value False: must be 'Auto', 'Recommend'"
            " or 'Off' (quote it: YAML reads a bare Off",
            id="a mode without quotes",
        ),
        pytest.param(
            yaml.safe_dump(changed(GOOD, {"spec.tiers.0.workload.resources.requests.cpu": 0.5})),
            "fleet.yaml: InferenceDeployment chat: spec.tiers[0].workload.resources.requests.cpu: invalid value 0.5:"
            ' must be a whole number or a quantity in quotes, such as "500m"',
            id="a fraction of a CPU without quotes",
        ),
    ],
)
def test_an_error_in_a_file_says_where(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        manifests.loads(text, source="fleet.yaml")
    assert str(caught.value).startswith(words)


def test_a_null_in_a_map_is_an_absent_entry() -> None:
    """Templates write it for a value that is not set."""
    changes = {
        "metadata.annotations": {"tidegate.io/paused": None},
        "spec.tiers.0.workload.resources.requests.cpu": None,
    }
    class_ = changed(ACCELERATOR, {"spec.nodeSelector.zone": None})
    found = manifests.loads(yaml.safe_dump_all([changed(GOOD, changes), class_]))
    spec = found.deployments[Key("default", "chat")]
    assert not spec.paused
    assert spec.tiers[0].workload is not None
    assert spec.tiers[0].workload.resources == {"requests": {"memory": "64Gi"}}
    assert "zone" not in found.accelerators["nvidia-h100"].node_selector


def test_a_duplicate_key_is_reported_with_its_line() -> None:
    with pytest.raises(SpecError, match=r"(?s)the key 'maxReplicas' appears twice.*line 3, column 1"):
        manifests.loads("maxReplicas: 1\na: 2\nmaxReplicas: 3\n", source="fleet.yaml")


def test_merge_keys_cause_no_duplicates() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n"
    assert documents(text, "x") == [{"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 3, "y": 4}}]


def test_an_object_as_kubectl_gets_it_is_accepted() -> None:
    metadata = {
        "name": "chat",
        "namespace": "prod",
        "uid": "u",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": None,
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["x.io/y"],
        "ownerReferences": [],
        "managedFields": [{"manager": "kubectl"}],
    }
    got = changed(GOOD, {"metadata": metadata, "status": {"replicas": 1, "ofALaterVersion": 1}})
    assert list(manifests.loads(yaml.safe_dump(got)).deployments) == [KEY]


def test_an_unquoted_date_is_text_as_in_kubectl() -> None:
    text = GOOD.replace("name: chat}", "name: chat, creationTimestamp: 2026-01-02T03:04:05Z}")
    assert len(manifests.loads(text).deployments) == 1


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: example.com/v1\nkind: InferenceDeployment\nmetadata: {name: x}\nspec: {a: 1}\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a]\n",
        "resources: [a]\n",
        "- 1\n- 2\n",
        "kind: CustomResourceDefinition\nenum: ['!=', =, =~]\n",
        "",
    ],
    ids=["the kind of another group", "another kind", "no object", "a list of numbers", "a bare =", "nothing"],
)
def test_objects_of_other_groups_are_skipped(text: str) -> None:
    found = manifests.loads(text)
    assert not found.deployments
    assert not found.accelerators


def test_the_items_of_a_list_of_ours_need_not_repeat_its_kind() -> None:
    item = {name: part for name, part in yaml.safe_load(GOOD).items() if name not in ("apiVersion", "kind")}
    listed = {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeploymentList", "metadata": {}, "items": [item]}
    assert len(manifests.loads(yaml.safe_dump(listed)).deployments) == 1


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"latin\.yaml: .* UTF-8"):
        manifests.load(path)


def test_a_folder_named_like_a_file_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").mkdir()
    (tmp_path / "a.yaml").write_text(GOOD)
    assert len(manifests.load(tmp_path).deployments) == 1


@pytest.mark.parametrize("value", [24, 24.0])
def test_without_a_cluster_a_whole_number_may_have_a_decimal_point(value: float) -> None:
    assert parsed(offline=True, **{"spec.maxReplicas": value}).replicas_max == 24


def test_everything_a_user_states_is_converted() -> None:
    assert parsed(**{"spec.priority": 7}).priority == 7
    assert convert.accelerator("h100", changed(ACCELERATOR, {"spec.currency": "EUR"})["spec"]).currency == "EUR"
    assert convert.is_paused({convert.PAUSED_ANNOTATION: "True"})
    assert not convert.is_paused({convert.PAUSED_ANNOTATION: "false"})
