"""
Manifests in files: what a person keeps in Git, for the commands that need no cluster.

In:    YAML with any number of documents, `List` objects among them.
Out:   accelerators and deployments, parsed as strictly as `kubectl apply` does (an unknown field is an error).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tidegate.api import convert
from tidegate.api.fields import OFFLINE
from tidegate.api.resources import API_VERSION, KINDS
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What a file holds of ours; other kinds are passed over."""

    accelerators: Mapping[str, Accelerator]
    deployments: Mapping[Key, DeploymentSpec]


def load(path: Path, *, offline: bool = True) -> Manifests:
    """
    The custom resources in a file, or in every `*.yaml` and `*.yml` of a folder.

    Args:
        path: File or folder.
        offline: As in `convert.deployment_spec`.

    Raises:
        SpecError: Names file, object, field, value and what is allowed.
    """
    files = sorted(f for f in path.iterdir() if f.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    texts = {str(file): file.read_text(encoding="utf-8") for file in files}
    return _collect(texts, offline=offline)


def loads(text: str, *, source: str = "input", offline: bool = True) -> Manifests:
    """The custom resources in a text; `source` is what errors call it."""
    return _collect({source: text}, offline=offline)


def _collect(texts: Mapping[str, str], *, offline: bool) -> Manifests:
    accelerators: dict[str, Accelerator] = {}
    deployments: dict[Key, DeploymentSpec] = {}
    for source, text in texts.items():
        for document in _documents(source, text):
            try:
                _reject_unknown(document, offline=offline)
                if document["kind"] == "AcceleratorClass":
                    accelerator = convert.accelerator_of(document, offline=offline)
                    accelerators[accelerator.name] = accelerator
                else:
                    spec = convert.deployment_of(document, offline=offline)
                    deployments[spec.key] = spec
            except SpecError as fault:
                where = f"{source}: {document['kind']} {_name(document)}: {fault.field}"
                raise SpecError(field=where, value=fault.value, allowed=fault.allowed) from None
    return Manifests(accelerators=accelerators, deployments=deployments)


def _documents(source: str, text: str) -> Iterator[Mapping[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as fault:
        raise SpecError(field=source, value="...", allowed=f"it must be YAML: {fault}") from None
    for document in documents:
        yield from _ours(document)


def _ours(document: object) -> Iterator[Mapping[str, Any]]:
    if not isinstance(document, Mapping):
        return
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _ours(item)
    elif document.get("apiVersion") == API_VERSION and document.get("kind") in KINDS:
        yield document


def _name(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name", "?")) if isinstance(metadata, Mapping) else "?"


def _reject_unknown(document: Mapping[str, Any], *, offline: bool) -> None:
    """A SpecError for a field that the API does not have: most often a typing error that would cost a promise."""
    model = KINDS[document["kind"]]
    body = {"metadata": {"name": _name(document)}, "spec": document.get("spec")}
    try:
        model.model_validate(body, context={OFFLINE: offline}, by_alias=True, by_name=False, extra="forbid")
    except ValidationError as fault:
        extra = [error for error in fault.errors() if error["type"] == "extra_forbidden"]
        if extra:
            path = convert.path_of(extra[0])
            raise SpecError(field=path, value=extra[0]["input"], allowed="there is no such field") from None
