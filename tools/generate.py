"""
Generate files from the chart and the settings: the chart's README, the plain manifests for `kubectl apply -k
deploy/base`, and the reference page of the settings.

`make manifests` writes them; tests compare the files in the repository with the output of this module.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from tidegate.sandbox.binaries import Effort, provide
from tidegate.settings import ENV_PREFIX, Settings, flag

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "tidegate"
BASE = ROOT / "deploy" / "base"
SETTINGS = ROOT / "docs" / "reference" / "settings.md"
NAMESPACE = "tidegate-system"
KUBERNETES = "1.36.0"
# Labels that only Helm uses.
HELM_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")

INTRODUCTION = """\
<!-- Made by `make manifests` from values.yaml. Do not edit. -->
# Helm chart of Tidegate

```console cluster
$ helm install tidegate charts/tidegate --namespace tidegate-system --create-namespace \\
    --set prometheus.url=http://prometheus-operated.monitoring.svc:9090
$ helm -n tidegate-system test tidegate
```

It runs two replicas, one of which leads, under the restricted Pod Security Standard and with minimal permissions
([what and why](../../docs/security.md)). The CRDs are upgraded with the release and kept when it is uninstalled, as are
your objects and the vLLM workloads. [Upgrades and uninstalling](../../docs/operations.md#upgrades).

## Values

| value | default | meaning |
|---|---|---|
"""

SETTINGS_INTRODUCTION = """\
<!-- Made by `make manifests` from operator/tidegate/settings.py. Do not edit. -->
# Settings

Options of `tidegate run`. Each one is a flag and an environment variable; the flag wins. An invalid value ends the
process with exit code 2 and a message that names the option and the allowed values.

The last column names the Helm value that sets the option; use `operator.extraEnv` for the others. The chart's defaults
([README](../../charts/tidegate/README.md)) are the same, except that it sets a Prometheus URL and logs in JSON.

| flag | environment variable | default | range | meaning | Helm value |
|---|---|---|---|---|---|
"""


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """(path, default, meaning) of each leaf of values.yaml; the meaning is in the `# --` lines above it."""
    path: list[tuple[int, str]] = []
    about: list[str] = []
    for line in text.splitlines():
        comment = re.match(r"\s*# -- ?(.*)", line)
        found = re.match(r"(\s*)([A-Za-z]+):\s*(.*)", line)
        if comment:
            about.append(comment[1])
        elif found:
            indent = len(found[1])
            path = [(i, name) for i, name in path if i < indent] + [(indent, found[2])]
            if found[3]:
                yield ".".join(name for _, name in path), found[3], " ".join(about)
            about = []


def readme() -> str:
    """The chart's README."""
    lines = [f"| `{p}` | `{d}` | {a} |" for p, d, a in rows((CHART / "values.yaml").read_text())]
    return INTRODUCTION + "\n".join(lines) + "\n"


def settings() -> str:
    """The reference page of the settings."""
    from_values = _helm_values()
    lines = []
    for item in fields(Settings):
        name = ENV_PREFIX + item.name.upper()
        shown = f"`{flag(item.name)}`" + (f", `--no-{flag(item.name)[2:]}`" if isinstance(item.default, bool) else "")
        default = f"{item.default:g}" if isinstance(item.default, float) else str(item.default).lower()
        cells = (shown, f"`{name}`", f"`{default}`" if default else "", _allowed(item.metadata), item.metadata["about"])
        lines.append(f"| {' | '.join(cells)} | {from_values.get(name, '')} |")
    return SETTINGS_INTRODUCTION + "\n".join(lines) + "\n"


def _allowed(limits: Mapping[str, Any]) -> str:
    choices = ", ".join(f"`{choice}`" for choice in limits.get("choices", ()))
    return choices or (f"{limits['low']} to {limits['high']}" if "low" in limits else "")


def _helm_values() -> dict[str, str]:
    """Helm value by environment variable: the one on the variable's line in the template, else the last one above."""
    found: dict[str, str] = {}
    last = ""
    for line in (CHART / "templates" / "deployment.yaml").read_text().splitlines():
        named = re.findall(r"\.Values\.([\w.]+)", line)
        last = named[-1] if named else last
        if variable := re.search(rf"name: ({ENV_PREFIX}\w+), (value|valueFrom):", line):
            found[variable[1]] = "set by the chart" if variable[2] == "valueFrom" else f"`{last}`"
    # Mounted files are defined further down in the template.
    secret = "`prometheus.auth.existingSecret`"
    return found | dict.fromkeys([f"{ENV_PREFIX}PROMETHEUS_{what}_FILE" for what in ("TOKEN", "PASSWORD")], secret)


def render(*arguments: str) -> list[dict[str, object]]:
    """Objects that `helm template` renders with these arguments."""
    helm = provide(["helm"], effort=Effort.LOOK)["helm"].path
    command = [str(helm), "template", "tidegate", str(CHART), "--kube-version", KUBERNETES, "--namespace", NAMESPACE]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    return [d for d in yaml.safe_load_all(done.stdout) if d]


def base() -> dict[str, str]:
    """Files of the kustomize base by name: one per kind of object."""
    objects = [_without_helm(o) for o in render("--skip-tests", "--set", "crds.install=true")]
    crds = [o for o in objects if o["kind"] == "CustomResourceDefinition"]
    rest = [o for o in objects if o["kind"] != "CustomResourceDefinition"]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["namespace.yaml", "crds.yaml", "operator.yaml"],
    }
    files = {
        "namespace.yaml": [namespace],
        "crds.yaml": crds,
        "operator.yaml": rest,
        "kustomization.yaml": [kustomization],
    }
    head = "# Made by `make manifests` from the chart. Do not edit.\n"
    return {name: head + yaml.safe_dump_all(parts, sort_keys=False, width=120) for name, parts in files.items()}


def _without_helm(value: object) -> object:
    """The object without the labels and annotations that only Helm uses."""
    if isinstance(value, list):
        return [_without_helm(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {k: _without_helm(v) for k, v in value.items() if k not in HELM_LABELS and not str(k).startswith("helm.sh/")}
    return {k: v for k, v in kept.items() if not (k in {"annotations", "labels"} and v == {})}


def main() -> None:
    """Write everything."""
    (CHART / "README.md").write_text(readme())
    SETTINGS.write_text(settings())
    BASE.mkdir(parents=True, exist_ok=True)
    for name, text in base().items():
        (BASE / name).write_text(text)
    sys.stdout.write(f"wrote {CHART / 'README.md'}, {SETTINGS} and {BASE}\n")


if __name__ == "__main__":
    main()
