"""
What the models reject without an API server, and their messages.
"""

import re

import pytest
import yaml

from tests.api.manifests import ACCELERATOR, GOOD, MINIMAL, TABLE, Bad
from tidegate.api import convert
from tidegate.errors import SpecError


def parse(manifest: dict, *, offline: bool) -> object:
    if manifest["kind"] == "AcceleratorClass":
        return convert.accelerator_of(manifest, offline=offline)
    return convert.deployment_of(manifest, offline=offline)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_the_models_refuse_what_the_api_server_refuses(case: Bad) -> None:
    with pytest.raises(SpecError) as caught:
        parse(case.manifest(), offline=False)
    assert case.field.split("[")[0].split(".")[-1] in caught.value.field or case.field in caught.value.field
    if " must " in case.words:
        assert case.words in caught.value.allowed


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_without_a_cluster_only_rules_that_need_one_are_skipped(case: Bad) -> None:
    if case.offline:
        with pytest.raises(SpecError):
            parse(case.manifest(), offline=True)
    else:
        parse(case.manifest(), offline=True)


@pytest.mark.parametrize("text", [GOOD, MINIMAL, ACCELERATOR], ids=["everything", "the least", "an accelerator"])
def test_a_good_manifest_is_accepted(text: str) -> None:
    parse(yaml.safe_load(text), offline=False)


def test_the_table_has_no_duplicate_rows() -> None:
    assert len({case.name for case in TABLE}) == len(TABLE) >= 30


def test_an_error_names_every_field_that_is_wrong() -> None:
    with pytest.raises(SpecError, match=re.escape("spec.model: is required (and 2 more: spec.slo, spec.tiers)")):
        convert.deployment_of({"metadata": {"name": "chat"}, "spec": {}})
