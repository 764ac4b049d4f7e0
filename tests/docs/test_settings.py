"""The reference page of the settings matches the code, and the chart has the same defaults."""

from dataclasses import fields
from typing import Any

import yaml

from tidegate.settings import Settings
from tools import generate


def test_the_page_is_the_one_that_the_settings_make() -> None:
    assert generate.SETTINGS.read_text() == generate.settings(), "run `make manifests`"


def test_the_chart_has_the_same_defaults_but_for_what_the_page_says() -> None:
    values: dict[str, Any] = yaml.safe_load((generate.CHART / "values.yaml").read_text())
    compared = {
        "window": values["prometheus"]["windowSeconds"],
        "stale": values["prometheus"]["staleSeconds"],
        "tick": values["operator"]["tickSeconds"],
        "history_days": values["operator"]["historyDays"],
        "writes_per_second": values["operator"]["writesPerSecond"],
        "log_level": values["operator"]["logLevel"],
        "namespace": values["watchNamespace"],
        "shard": values["shard"],
        "prometheus_insecure": values["prometheus"]["tls"]["insecureSkipVerify"],
    }
    assert compared == {item.name: item.default for item in fields(Settings) if item.name in compared}
    assert (values["operator"]["logFormat"], Settings.__dataclass_fields__["log_format"].default) == ("json", "text")
