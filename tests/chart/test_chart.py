"""The chart, rendered by the real Helm: what each value changes, what the schema rejects, what is generated from it."""

import json
import re
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.chart.rendering import by_kind, container, environment, render
from tidegate.errors import SourceError
from tidegate.sandbox.binaries import Effort, provide
from tools import generate

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.cluster  # Helm is one of the programs that `make binaries` gets


def test_the_defaults_run_two_replicas_under_restricted_pod_security() -> None:
    (deployment,) = by_kind(render(), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == 2
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_image_says_the_user_so_that_openshift_can_give_another() -> None:
    """OpenShift's default constraint rejects pods with a user or group; it assigns them from the namespace's range."""
    objects = render()
    pods = [d["spec"]["template"] for d in by_kind(objects, "Deployment")] + by_kind(objects, "Pod")
    assert [sorted(pod["spec"]["securityContext"]) for pod in pods] == [["runAsNonRoot", "seccompProfile"]] * 2


def test_the_custom_resource_definitions_stay_when_the_release_goes() -> None:
    crds = by_kind(render(), "CustomResourceDefinition")
    assert len(crds) == 2
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in crds} == {"keep"}
    assert_kept_by_pipelines(crds)
    assert by_kind(render("--set", "crds.install=false"), "CustomResourceDefinition") == []


def assert_kept_by_pipelines(crds: list[Any]) -> None:
    """Argo CD prunes what Helm would keep (argoproj/argo-cd#17819), and Flux what a Kustomization no longer has."""
    wanted = {
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }
    assert [crd["metadata"]["annotations"] | wanted for crd in crds] == [crd["metadata"]["annotations"] for crd in crds]


def test_the_custom_resource_definitions_stay_when_a_pipeline_drops_the_plain_manifests() -> None:
    crds = list(yaml.safe_load_all((generate.BASE / "crds.yaml").read_text()))
    assert len(crds) == 2
    assert_kept_by_pipelines(crds)


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "crds").glob("*.yaml")))
def test_the_chart_carries_the_generated_definitions(name: str) -> None:
    assert (ROOT / "charts/tidegate/files/crds" / name).read_text() == (ROOT / "crds" / name).read_text()


ON_OFF = [
    ("PodDisruptionBudget", "podDisruptionBudget.enabled=false", "replicas=2"),
    ("NetworkPolicy", "networkPolicy.enabled=false", "networkPolicy.enabled=true"),
    ("ServiceMonitor", "serviceMonitor.enabled=false", "serviceMonitor.enabled=true"),
    ("PrometheusRule", "prometheusRule.enabled=false", "prometheusRule.enabled=true"),
    ("ConfigMap", "dashboards.enabled=false", "dashboards.enabled=true"),
    ("ServiceAccount", "serviceAccount.create=false", "serviceAccount.create=true"),
    ("ClusterRole", "rbac.create=false", "rbac.create=true"),
]


@pytest.mark.parametrize(("kind", "off", "on"), ON_OFF, ids=[f"{kind} comes and goes" for kind, _, _ in ON_OFF])
def test_an_optional_object_comes_and_goes(kind: str, off: str, on: str) -> None:
    assert by_kind(render("--set", off), kind) == []
    assert by_kind(render("--set", on), kind) != []


ENVIRONMENT = [
    ("prometheus.url=https://p.example/x", "TIDEGATE_PROMETHEUS_URL", "https://p.example/x"),
    ("prometheus.headers.X-Scope-OrgID=team", "TIDEGATE_PROMETHEUS_HEADERS", "X-Scope-OrgID: team"),
    ("podMonitor.labels.release=stack", "TIDEGATE_POD_MONITOR_LABELS", "release=stack"),
    ("prometheus.matchers.cluster=eu", "TIDEGATE_PROMETHEUS_MATCHERS", "cluster=eu"),
    ("prometheus.tls.insecureSkipVerify=true", "TIDEGATE_PROMETHEUS_INSECURE", "true"),
    ("prometheus.tls.caConfigMap=ca", "TIDEGATE_PROMETHEUS_CA_FILE", "/etc/tidegate/ca/ca.crt"),
    ("prometheus.windowSeconds=120", "TIDEGATE_WINDOW", "120"),
    ("prometheus.staleSeconds=150", "TIDEGATE_STALE", "150"),
    ("operator.tickSeconds=30", "TIDEGATE_TICK", "30"),
    ("operator.historyDays=2", "TIDEGATE_HISTORY_DAYS", "2"),
    ("operator.writesPerSecond=5", "TIDEGATE_WRITES_PER_SECOND", "5"),
    ("operator.logFormat=text", "TIDEGATE_LOG_FORMAT", "text"),
    ("operator.logLevel=debug", "TIDEGATE_LOG_LEVEL", "debug"),
    ("watchNamespace=prod", "TIDEGATE_NAMESPACE", "prod"),
    ("shard=a", "TIDEGATE_SHARD", "a"),
]


@pytest.mark.parametrize(("value", "variable", "expected"), ENVIRONMENT, ids=[row[0] for row in ENVIRONMENT])
def test_a_value_reaches_the_operator(value: str, variable: str, expected: str) -> None:
    assert environment(render("--set", value))[variable] == expected


def test_every_variable_is_a_setting_of_the_operator() -> None:
    from dataclasses import fields

    from tidegate.settings import ENV_PREFIX, Settings

    known = {ENV_PREFIX + item.name.upper() for item in fields(Settings)}
    everything = ["--set", "prometheus.auth.type=basic,prometheus.auth.user=u,prometheus.auth.existingSecret=s"]
    assert set(environment(render(*everything))) <= known


def test_credentials_come_from_a_mounted_secret() -> None:
    objects = render("--set", "prometheus.auth.type=bearer,prometheus.auth.existingSecret=token")
    (deployment,) = by_kind(objects, "Deployment")
    volumes = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["prometheus"]["secret"]["secretName"] == "token"
    assert environment(objects)["TIDEGATE_PROMETHEUS_TOKEN_FILE"] == "/etc/tidegate/prometheus/token"


def test_one_namespace_takes_the_namespaced_rules_out_of_the_cluster_role() -> None:
    objects = render("--set", "watchNamespace=prod")
    cluster = next(o for o in by_kind(objects, "ClusterRole") if o["metadata"]["name"] == "tidegate")
    assert {r for rule in cluster["rules"] for r in rule["resources"]} == {
        "acceleratorclasses",
        "acceleratorclasses/status",
        "nodes",
        "pods",
    }
    assert {r["metadata"]["namespace"] for r in by_kind(objects, "Role")} == {"prod", generate.NAMESPACE}


CLASH = {
    "commonLabels": {"team": "all", "app.kubernetes.io/part-of": "ml", "app.kubernetes.io/instance": "mine"},
    "commonAnnotations": {"team": "all", "kubectl.kubernetes.io/default-container": "other"},
    **{part: {"enabled": True} for part in ("networkPolicy", "serviceMonitor", "prometheusRule")},
    "dashboards": {"enabled": True, "labels": {"team": "near"}},
    "podLabels": {"team": "near", "app.kubernetes.io/name": "mine"},
    "podAnnotations": {"team": "near"},
}


class Strict(yaml.SafeLoader):
    """Rejects duplicate keys in a mapping, as API servers and GitOps tools do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice at line {node.start_mark.line}: {sorted(keys)}"
        return super().construct_mapping(node, deep)


def rendered_text(*arguments: str, release: str = "tidegate", chart: Path = generate.CHART) -> str:
    """What `helm template` prints."""
    try:
        helm = provide(["helm"], effort=Effort.LOOK)["helm"].path
    except SourceError as error:
        pytest.skip(f"no Helm here (`make binaries` gets it): {error}")
    command = [str(helm), "template", release, str(chart), "--kube-version", generate.KUBERNETES, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("wanted", "kinds"), [("true", 2), ("false", 0)])
def test_a_parent_chart_switches_it_on_and_off(tmp_path: Path, wanted: str, kinds: int) -> None:
    dependency = {"name": "tidegate", "version": ">=0.0.0", "condition": "tidegate.enabled"}
    parent = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    shutil.copytree(generate.CHART, tmp_path / "charts" / "tidegate")
    text = rendered_text("--set", f"tidegate.enabled={wanted}", chart=tmp_path)
    assert text.count("\nkind: CustomResourceDefinition\n") == kinds


def test_labels_that_are_set_twice_are_printed_once_and_the_nearest_wins(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(CLASH))
    text = rendered_text("--values", str(tmp_path / "values.yaml"))
    objects = [found for found in yaml.load_all(text, Loader=Strict) if found]
    for each in objects:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "ml", each["kind"]
        assert labels["app.kubernetes.io/instance"] == "tidegate", "what selectors use stands"
        assert labels["team"] == ("near" if each["kind"] == "ConfigMap" else "all"), each["kind"]
        assert each["metadata"]["annotations"]["team"] == "all", each["kind"]
    (deployment,) = by_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["metadata"]
    assert (pod["labels"]["team"], pod["annotations"]["team"]) == ("near", "near")
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["labels"].items()


def test_a_name_of_digits_stays_a_text() -> None:
    numbers = "nameOverride=1,watchNamespace=2,serviceAccount.name=3,priorityClassName=4,prometheus.tls.caConfigMap=5"
    text = rendered_text(
        "--set-string", numbers, "--namespace", "6", "--set", "networkPolicy.enabled=true", release="1"
    )
    names = {"name", "namespace", "serviceAccountName", "priorityClassName", "app.kubernetes.io/instance"}

    def check(value: Any, path: str) -> None:
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            assert key not in names or isinstance(child, str | dict), f"{path}.{key} is {child!r}"
            if isinstance(child, dict | list):
                check(child, f"{path}.{key}")

    for each in (found for found in yaml.safe_load_all(text) if found):
        if each["kind"] != "CustomResourceDefinition":
            check(each, each["kind"])


@pytest.mark.parametrize(
    ("ports", "opened"),
    [
        pytest.param({}, [[53, 53], [443, 6443], [9090, 443]], id="the defaults"),
        pytest.param({"dnsPorts": [5353]}, [[5353, 5353], [443, 6443], [9090, 443]], id="DNS as OpenShift has it"),
        pytest.param({"prometheusPorts": []}, [[53, 53], [443, 6443]], id="no port of Prometheus"),
        pytest.param({"apiServerPorts": [], "prometheusPorts": []}, [[53, 53]], id="DNS alone"),
    ],
)
def test_an_empty_list_of_ports_allows_none(ports: dict[str, list[int]], opened: list[list[int]]) -> None:
    values = json.dumps({"enabled": True, **ports})
    (policy,) = by_kind(render("--set-json", f"networkPolicy={values}"), "NetworkPolicy")
    assert [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]] == opened


def test_the_pod_of_helm_test_runs_where_the_operator_does_and_nothing_selects_it() -> None:
    values = 'imagePullSecrets=[{"name":"pull"}],nodeSelector={"pool":"ops"},tolerations=[{"operator":"Exists"}]'
    objects = render("--set-json", f"{values},networkPolicy.enabled=true")
    (test,) = by_kind(objects, "Pod")
    (deployment,) = by_kind(objects, "Deployment")
    for field in ("imagePullSecrets", "nodeSelector", "tolerations"):
        assert test["spec"][field] == deployment["spec"]["template"]["spec"][field] != []
    (only,) = test["spec"]["containers"]
    assert only["resources"] == container(deployment)["resources"], "a quota or a policy may ask for limits"
    selected = deployment["spec"]["selector"]["matchLabels"]
    assert not selected.items() <= test["metadata"]["labels"].items()


def test_it_asks_for_a_kubernetes_that_knows_every_field_of_the_pods() -> None:
    """Pods of managed tiers wait by `preStop.sleep`, which 1.29 refuses unless a gate is opened."""
    with pytest.raises(ValueError, match=r"requires kubeVersion: >=1\.30\.0-0"):
        render("--kube-version", "1.29.15")
    assert render("--kube-version", "1.30.0")


NOTES = json.dumps([{"kind": "Notes", "text": '{{ include (print .Template.BasePath "/NOTES.txt") . | b64enc }}'}])


@pytest.mark.parametrize(
    ("values", "namespace", "told"),
    [
        pytest.param("replicas=2", "prod", "", id="it serves all"),
        pytest.param("watchNamespace=one", "one", "set the namespace one:", id="it serves one namespace"),
        pytest.param("shard=blue", "prod", "add the label tidegate.io/shard: blue:", id="it serves a shard"),
        pytest.param(
            "watchNamespace=one,shard=blue",
            "one",
            "set the namespace one and add the label tidegate.io/shard: blue:",
            id="it serves both",
        ),
    ],
)
def test_the_notes_lead_to_a_deployment_that_is_managed(values: str, namespace: str, told: str) -> None:
    (notes,) = by_kind(render("--set", values, "--set-json", f"extraObjects={NOTES}"), "Notes")
    text = b64decode(notes["text"]).decode()
    assert f"kubectl create namespace {namespace}\n" in text
    assert f"kubectl -n {namespace} describe infd chat" in text
    assert re.findall(r"^   In the example, first (.*) others are not managed here\.$", text, re.MULTILINE) == (
        [told] if told else []
    )


def test_a_number_of_a_million_is_no_power_of_ten() -> None:
    assert "terminationGracePeriodSeconds: 1000000\n" in rendered_text("--set", "terminationGracePeriodSeconds=1000000")


TAKEN = [
    {"prometheus": {"url": "http://[::1]:9090/select/0/prometheus"}},
    {"prometheus": {"url": "https://p.example", "headers": {"X-Scope-OrgID": "team"}, "matchers": {"cluster": "eu-1"}}},
    {"prometheus": {"url": "http://mimir/prometheus", "auth": {"type": "bearer", "existingSecret": "token"}}},
    {"podMonitor": {"labels": {"example.com/release": "kube-prometheus-stack"}}},
]
SCHEMA = json.loads((generate.CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("values", TAKEN, ids=str)
def test_the_schema_takes_what_the_operator_takes(values: dict[str, Any]) -> None:
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(values)) == []


def test_no_rule_reads_secrets_or_uses_a_wildcard() -> None:
    for role in [o for kind in ("ClusterRole", "Role") for o in by_kind(render(), kind)]:
        for rule in role["rules"]:
            assert "secrets" not in rule["resources"]
            assert "*" not in [*rule["resources"], *rule["verbs"], *rule["apiGroups"]]


def test_a_digest_wins_over_the_tag() -> None:
    digest = "sha256:" + "a" * 64
    (deployment,) = by_kind(render("--set", f"image.tag=v1,image.digest={digest}"), "Deployment")
    assert container(deployment)["image"] == f"tidegate/tidegate@{digest}"


REFUSED = [
    ("replicas=0", "replicas"),
    ("prometheus.url=prometheus:9090", "prometheus"),
    ("prometheus.url=http://user:secret@prometheus", "prometheus"),
    ("prometheus.url=http://prometheus/?tenant=a", "url"),
    ("prometheus.url=http://prometheus/#graph", "url"),
    ("prometheus.url=http://:9090", "url"),
    (r"prometheus.headers.X-Scope-OrgID=a\,b", "headers"),
    ("prometheus.headers.X Y=a", "headers"),
    (r"prometheus.matchers.cluster=a\,b", "matchers"),
    (r"prometheus.matchers.a\.b=c", "matchers"),
    (r"podMonitor.labels.release=a\,b", "labels"),
    ("podMonitor.labels.-release=a", "labels"),
    ("prometheus.auth.existingSecret=token", "existingSecret"),
    ("operator.logLevel=loud", "logLevel"),
    ("operator.tickSeconds=1", "tickSeconds"),
    ("image.digest=abc", "digest"),
    ("replica=3", "replica"),
    ("prometheus.auth.type=bearer", "existingSecret"),
    ("prometheus.auth.type=basic,prometheus.auth.existingSecret=s", "user"),
    ("watchNamespace=Prod", "watchNamespace"),
    ("prometheusRule.budgetShare=2", "budgetShare"),
    ("operator.extraEnv[0].name=TIDEGATE_MEMORY_INTERVAL,operator.extraEnv[0].value=600", "extraEnv/0/value"),
]


@pytest.mark.parametrize(("value", "named"), REFUSED, ids=[f"{row[0]} is refused" for row in REFUSED])
def test_a_bad_value_is_refused_by_name(value: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        render("--set", value)


def test_the_alerts_and_the_dashboard_use_metrics_that_exist() -> None:
    from tidegate.report.metrics import Metrics

    page = Metrics("test").page().decode()
    known = set(re.findall(r"^# TYPE (tidegate_\w+)", page, re.MULTILINE))
    known |= {f"{name}{suffix}" for name in known for suffix in ("_total", "_bucket", "_count", "_sum")}
    (rule,) = by_kind(render("--set", "prometheusRule.enabled=true"), "PrometheusRule")
    (dashboard,) = by_kind(render("--set", "dashboards.enabled=true"), "ConfigMap")
    texts = json.dumps(rule) + dashboard["data"]["tidegate.json"]
    assert set(re.findall(r"\btidegate_[a-z0-9_]+", texts)) <= known
    assert {p["title"] for p in json.loads(dashboard["data"]["tidegate.json"])["panels"]}


def test_the_readme_is_the_one_that_values_make() -> None:
    assert (generate.CHART / "README.md").read_text() == generate.readme()


def test_every_value_is_explained_and_in_the_schema() -> None:
    text = (generate.CHART / "values.yaml").read_text()
    assert [path for path, _, meaning in generate.rows(text) if not meaning] == []
    values: dict[str, Any] = yaml.safe_load(text)
    schema = json.loads((generate.CHART / "values.schema.json").read_text())
    assert set(values) <= set(schema["properties"])
    for name, value in values.items():
        if isinstance(value, dict) and value and schema["properties"][name].get("additionalProperties") is False:
            assert set(value) <= set(schema["properties"][name]["properties"]), name


@pytest.mark.parametrize("name", ["namespace.yaml", "crds.yaml", "operator.yaml", "kustomization.yaml"])
def test_the_plain_manifests_are_those_of_the_chart(name: str) -> None:
    assert (generate.BASE / name).read_text() == generate.base()[name], "run `make manifests`"


def test_the_kustomization_to_copy_names_image_and_prometheus() -> None:
    try:
        kubectl = provide(["kubectl"], effort=Effort.LOOK)["kubectl"].path
    except SourceError as error:
        pytest.skip(f"no kubectl here (`make binaries` gets it): {error}")
    done = subprocess.run(
        [kubectl, "kustomize", str(generate.BASE.parent / "example")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    (deployment,) = by_kind(objects, "Deployment")
    assert container(deployment)["image"] == "YOUR-REGISTRY/tidegate:0.1.0"
    variables = environment(objects)
    assert variables["TIDEGATE_POD_MONITOR_LABELS"] == "release=kube-prometheus-stack"
    plain = environment([o for o in yaml.safe_load_all((generate.BASE / "operator.yaml").read_text()) if o])
    assert variables.items() >= plain.items(), "nothing of the base is lost"
