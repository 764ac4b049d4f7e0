"""Objects must behave the same on both control planes: identity, versions, generations, deletion, lists."""

import pytest

from tests.sandbox.kube import APPS, CORE, MERGE, TIDEGATE, Kube, config_map, deployment, inference_deployment


async def test_an_object_gets_an_identity_when_it_is_made(kube: Kube) -> None:
    made = await kube.create(kube.path("configmaps"), config_map("a", x="1"))
    metadata = made["metadata"]
    assert metadata["namespace"] == kube.namespace
    assert len(metadata["uid"]) == 36
    assert metadata["resourceVersion"].isdigit()
    assert metadata["creationTimestamp"].endswith("Z")
    assert "generation" not in metadata


async def test_a_generated_name_begins_as_asked(kube: Kube) -> None:
    made = await kube.create(kube.path("configmaps"), {"metadata": {"generateName": "part-"}})
    assert made["metadata"]["name"].startswith("part-")
    assert len(made["metadata"]["name"]) == len("part-") + 5


async def test_only_real_changes_increase_the_version(kube: Kube) -> None:
    path = kube.path("configmaps", "a")
    made = await kube.create(kube.path("configmaps"), config_map("a", x="1"))
    changed = await kube.patch(path, {"data": {"x": "2"}})
    same = await kube.patch(path, {"data": {"x": "2"}})
    versions = [int(each["metadata"]["resourceVersion"]) for each in (made, changed, same)]
    assert versions[0] < versions[1] == versions[2]


@pytest.mark.parametrize(
    ("method", "name", "body", "status", "reason", "words"),
    [
        ("GET", "ghost", None, 404, "NotFound", 'configmaps "ghost" not found'),
        ("DELETE", "ghost", None, 404, "NotFound", 'configmaps "ghost" not found'),
        ("PATCH", "ghost", {"data": {}}, 404, "NotFound", 'configmaps "ghost" not found'),
        ("POST", "", config_map("a"), 409, "AlreadyExists", 'configmaps "a" already exists'),
        ("POST", "", config_map("A_b"), 422, "Invalid", "a lowercase RFC 1123 subdomain must consist of"),
        ("POST", "", {"data": {}}, 422, "Invalid", "Required value: name or generateName is required"),
        ("PUT", "a", config_map("b"), 400, "BadRequest", "does not match the name on the URL"),
        ("PUT", "a", {**config_map("a"), "kind": "Secret"}, 400, "BadRequest", "Secret"),
    ],
    ids=[
        "get of what is not there",
        "delete of what is not there",
        "patch of what is not there",
        "create of what is there",
        "a name that is no name",
        "no name at all",
        "a body for another object",
        "a body of another kind",
    ],
)
async def test_errors_have_code_reason_and_message(
    kube: Kube, method: str, name: str, body: object, status: int, reason: str, words: str
) -> None:
    await kube.create(kube.path("configmaps"), config_map("a"))
    kind = MERGE if method == "PATCH" else "application/json"
    got, answer = await kube.call(method, kube.path("configmaps", name), body, content_type=kind)
    assert (got, answer["kind"], answer["reason"]) == (status, "Status", reason)
    assert words in answer["message"]


async def test_a_namespace_must_be_there(kube: Kube) -> None:
    path = f"{CORE}/namespaces/nowhere-at-all/configmaps"
    status, answer = await kube.call("POST", path, config_map("a"))
    assert (status, answer["message"]) == (404, 'namespaces "nowhere-at-all" not found')


async def test_a_write_from_an_old_state_is_a_conflict(kube: Kube) -> None:
    path = kube.path("configmaps", "a")
    old = await kube.create(kube.path("configmaps"), config_map("a", x="1"))
    await kube.patch(path, {"data": {"x": "2"}})
    status, answer = await kube.call("PUT", path, {**old, "data": {"x": "3"}})
    assert (status, answer["reason"]) == (409, "Conflict")
    assert "the object has been modified" in answer["message"]
    stale = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"x": "4"}}
    assert (await kube.call("PATCH", path, stale, content_type=MERGE))[0] == 409
    assert (await kube.get(path))["data"] == {"x": "2"}


async def test_an_update_without_a_version_overwrites(kube: Kube) -> None:
    await kube.create(kube.path("configmaps"), config_map("a", x="1", y="1"))
    status, answer = await kube.call("PUT", kube.path("configmaps", "a"), config_map("a", x="2"))
    assert (status, answer["data"]) == (200, {"x": "2"})


@pytest.mark.parametrize(
    ("group", "plural", "make", "change"),
    [
        (APPS, "deployments", deployment, {"spec": {"replicas": 0}}),
        (TIDEGATE, "inferencedeployments", inference_deployment, {"spec": {"maxReplicas": 7}}),
    ],
    ids=["a built-in kind", "a custom resource"],
)
async def test_the_generation_counts_what_is_wanted_and_nothing_else(
    kube: Kube, group: str, plural: str, make: object, change: dict[str, object]
) -> None:
    path = kube.path(plural, "a", group=group)
    await kube.create(kube.path(plural, group=group), make("a", replicas=1) if make is deployment else make("a"))  # type: ignore[operator]
    labelled = await kube.patch(path, {"metadata": {"labels": {"x": "y"}}})
    assert labelled["metadata"]["generation"] == 1
    assert (await kube.patch(path, change))["metadata"]["generation"] == 2
    assert (await kube.patch(path, change))["metadata"]["generation"] == 2


async def test_status_and_spec_are_written_apart(kube: Kube) -> None:
    group, path = TIDEGATE, kube.path("inferencedeployments", "a", group=TIDEGATE)
    wanted = {**inference_deployment("a"), "status": {"replicas": 9}}
    made = await kube.create(kube.path("inferencedeployments", group=group), wanted)
    assert made["status"] == {"observedGeneration": 0}, "what was sent is dropped; the default of the CRD stands there"
    both = {"spec": {"maxReplicas": 9}, "status": {"replicas": 3}}
    through_status = await kube.patch(f"{path}/status", both)
    assert through_status["spec"]["maxReplicas"] == 4
    assert through_status["status"]["replicas"] == 3
    assert through_status["metadata"]["generation"] == 1
    through_main = await kube.patch(path, {"spec": {"maxReplicas": 9}, "status": {"replicas": 5}})
    assert (through_main["spec"]["maxReplicas"], through_main["status"]["replicas"]) == (9, 3)


@pytest.mark.parametrize(
    ("group", "plural"), [(APPS, "deployments"), (TIDEGATE, "inferencedeployments")], ids=["built-in", "custom"]
)
async def test_the_scale_subresource_reads_and_writes_replicas(kube: Kube, group: str, plural: str) -> None:
    path = kube.path(plural, "a", group=group)
    wanted = deployment("a", replicas=2) if group == APPS else inference_deployment("a", replicas=2)
    await kube.create(kube.path(plural, group=group), wanted)
    scale = await kube.get(f"{path}/scale")
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 2})
    scaled = await kube.patch(f"{path}/scale", {"spec": {"replicas": 3}}, fieldManager="tester")
    assert scaled["spec"]["replicas"] == 3
    item = await kube.get(path)
    assert (item["spec"]["replicas"], item["metadata"]["generation"]) == (3, 2)
    entry = next(each for each in item["metadata"]["managedFields"] if each["manager"] == "tester")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert (entry["subresource"], entry["operation"]) == ("scale", "Update")
    stale = {**scale, "spec": {"replicas": 1}}
    assert (await kube.call("PUT", f"{path}/scale", stale))[0] == 409
    assert (await kube.call("PATCH", f"{path}/scale", {"spec": {"replicas": -1}}, content_type=MERGE))[0] == 422


async def test_an_object_with_a_finalizer_waits_for_it(kube: Kube) -> None:
    path = kube.path("configmaps", "a")
    item = config_map("a")
    item["metadata"]["finalizers"] = ["tidegate.io/hold"]
    await kube.create(kube.path("configmaps"), item)
    status, going = await kube.call("DELETE", path)
    assert (status, going["kind"]) == (200, "ConfigMap")
    assert going["metadata"]["deletionTimestamp"]
    await kube.patch(path, {"metadata": {"finalizers": None}})
    assert (await kube.call("GET", path))[0] == 404


async def test_an_object_without_one_goes_at_once(kube: Kube) -> None:
    await kube.create(kube.path("configmaps"), config_map("a"))
    status, answer = await kube.call("DELETE", kube.path("configmaps", "a"))
    assert (status, answer["kind"], answer["status"]) == (200, "Status", "Success")
    assert (await kube.call("GET", kube.path("configmaps", "a")))[0] == 404


async def test_a_delete_can_name_which_object_it_means(kube: Kube) -> None:
    await kube.create(kube.path("configmaps"), config_map("a"))
    options = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    status, answer = await kube.call("DELETE", kube.path("configmaps", "a"), options)
    assert (status, answer["reason"]) == (409, "Conflict")


async def test_a_dry_run_answers_as_usual_and_keeps_nothing(kube: Kube) -> None:
    made = await kube.create(kube.path("configmaps"), config_map("a"), dryRun="All")
    assert made["metadata"]["uid"]
    assert (await kube.call("GET", kube.path("configmaps", "a")))[0] == 404


async def test_a_collection_can_be_deleted_by_label(kube: Kube) -> None:
    for name in ("a", "b", "c"):
        item = config_map(name)
        item["metadata"]["labels"] = {"keep": "yes" if name == "b" else "no"}
        await kube.create(kube.path("configmaps"), item)
    status, _ = await kube.call("DELETE", kube.path("configmaps"), labelSelector="keep=no")
    left = await kube.get(kube.path("configmaps"), labelSelector="keep")
    assert (status, [each["metadata"]["name"] for each in left["items"]]) == (200, ["b"])


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("tier=fp8", "b"),
        ("tier==fp8", "b"),
        ("tier!=fp8", "acd"),
        ("tier in (fp8,bf16)", "ab"),
        ("tier notin (fp8, bf16)", "cd"),
        ("tier", "abc"),
        ("!tier", "d"),
        ("tier,part=x", "ac"),
    ],
)
async def test_label_selectors_choose(kube: Kube, selector: str, chosen: str) -> None:
    labels = {"a": {"tier": "bf16", "part": "x"}, "b": {"tier": "fp8"}, "c": {"tier": "int4", "part": "x"}, "d": {}}
    for name, own in labels.items():
        item = config_map(name)
        item["metadata"]["labels"] = own
        await kube.create(kube.path("configmaps"), item)
    found = await kube.get(kube.path("configmaps"), labelSelector=selector)
    names = [each["metadata"]["name"] for each in found["items"] if len(each["metadata"]["name"]) == 1]
    assert "".join(names) == chosen


async def test_field_selectors_choose_and_unknown_fields_are_refused(kube: Kube) -> None:
    for name in "ab":
        await kube.create(kube.path("configmaps"), config_map(name))
    found = await kube.get(kube.path("configmaps"), fieldSelector="metadata.name=b")
    assert [each["metadata"]["name"] for each in found["items"]] == ["b"]
    status, answer = await kube.call("GET", kube.path("configmaps"), fieldSelector="data.x=1")
    assert status == 400
    assert '"data.x" is not a known field selector' in answer["message"]
    status, answer = await kube.call("GET", kube.path("pods"), fieldSelector="spec.nothing=1")
    assert (status, "field label not supported: spec.nothing" in answer["message"]) == (400, True)


async def test_pages_of_a_list_show_one_version(kube: Kube) -> None:
    """Objects created or deleted while a client reads pages do not affect later pages."""
    for name in "abcde":
        item = config_map(name)
        item["metadata"]["labels"] = {"page": "yes"}
        await kube.create(kube.path("configmaps"), item)
    first = await kube.get(kube.path("configmaps"), limit="2", labelSelector="page")
    await kube.create(kube.path("configmaps"), config_map("cc"))
    await kube.call("DELETE", kube.path("configmaps", "d"))
    token = first["metadata"]["continue"]
    rest = await kube.get(kube.path("configmaps"), labelSelector="page", **{"continue": token})
    assert [each["metadata"]["name"] for each in [*first["items"], *rest["items"]]] == list("abcde")
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert not rest["metadata"].get("continue")


async def test_a_page_says_how_many_items_remain(kube: Kube) -> None:
    path = f"{TIDEGATE}/namespaces/{kube.namespace}/inferencedeployments"
    for name in "abcde":
        await kube.create(path, inference_deployment(name))
    first = await kube.get(path, limit="2")
    assert first["metadata"]["remainingItemCount"] == 3


async def test_a_list_from_the_future_times_out(kube: Kube) -> None:
    status, answer = await kube.call("GET", kube.path("configmaps"), resourceVersion="99999999")
    assert (status, answer["reason"]) == (504, "Timeout")
    assert "Too large resource version" in answer["message"]


async def test_deleting_a_namespace_deletes_its_objects(kube: Kube) -> None:
    name = f"{kube.namespace}-more"
    await kube.create(f"{CORE}/namespaces", {"metadata": {"name": name}})
    await kube.create(f"{CORE}/namespaces/{name}/configmaps", config_map("a"))
    assert (await kube.call("DELETE", f"{CORE}/namespaces/{name}"))[0] == 200
    await kube.until_gone(f"{CORE}/namespaces/{name}", timeout_s=30)
    assert (await kube.call("GET", f"{CORE}/namespaces/{name}/configmaps/a"))[0] == 404


async def test_discovery_lists_our_kinds(kube: Kube) -> None:
    groups = await kube.get("/apis")
    assert "tidegate.io" in [each["name"] for each in groups["groups"]]
    kinds = {each["name"]: each for each in (await kube.get(TIDEGATE))["resources"]}
    assert kinds["inferencedeployments"]["shortNames"] == ["infd"]
    assert kinds["inferencedeployments"]["categories"] == ["tidegate"]
    assert kinds["acceleratorclasses"]["namespaced"] is False
    assert kinds["inferencedeployments/scale"]["kind"] == "Scale"
    assert (await kube.call("GET", "/apis/nobody.io/v1/things"))[0] == 404


async def test_tables_have_the_columns_of_the_crd(kube: Kube) -> None:
    path = kube.path("inferencedeployments", group=TIDEGATE)
    await kube.create(path, inference_deployment("a"))
    body = await kube.get(path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert body["kind"] == "Table"
    names = [each["name"] for each in body["columnDefinitions"]]
    cells = dict(zip(names, body["rows"][0]["cells"], strict=True))
    assert cells["Name"] == "a"
    assert names[0] == "Name"
    assert body["rows"][0]["object"]["metadata"]["name"] == "a"


async def test_metadata_alone_can_be_asked_for(kube: Kube) -> None:
    await kube.create(kube.path("configmaps"), config_map("a", x="1"))
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    body = await kube.get(kube.path("configmaps"), accept=accept, fieldSelector="metadata.name=a")
    assert body["kind"] == "PartialObjectMetadataList"
    assert [set(each) for each in body["items"]] == [{"metadata"}] or "data" not in body["items"][0]


async def test_an_event_is_one_object_under_two_names(kube: Kube) -> None:
    """Written as `events.k8s.io/v1`, read as `v1`, which is what kubectl describe asks for; and the other way round."""
    about = {"kind": "ConfigMap", "namespace": kube.namespace, "name": "a", "uid": "u-1", "apiVersion": "v1"}
    event = {
        "metadata": {"name": "a.1"},
        "eventTime": "2026-11-20T10:00:00.000000Z",
        "reportingController": "tidegate.io/operator",
        "reportingInstance": "one",
        "action": "Scale",
        "reason": "DemandRising",
        "regarding": about,
        "note": "two more",
        "type": "Normal",
    }
    new = f"/apis/events.k8s.io/v1/namespaces/{kube.namespace}/events"
    made = await kube.create(new, event)
    assert (made["note"], made["regarding"]["name"]) == ("two more", "a")
    found = await kube.get(kube.path("events"), fieldSelector="involvedObject.uid=u-1")
    core = found["items"][0]
    assert (core["message"], core["involvedObject"]["name"]) == ("two more", "a")
    assert core["reportingComponent"] == "tidegate.io/operator"
    names = [each["metadata"]["name"] for each in (await kube.get(new))["items"]]
    assert "a.1" in names
    patched = await kube.patch(
        f"{new}/a.1", {"series": {"count": 2, "lastObservedTime": "2026-11-20T10:00:05.000000Z"}}
    )
    assert (patched["series"]["count"], patched["note"]) == (2, "two more")
