"""
Manifests in files, for the commands that need no cluster.

In:    YAML with any number of documents, including lists of objects.
Out:   accelerators and deployments, parsed as strictly as the API server does it. Errors are: an unknown field, a field
       or an object that appears twice, and a kind or version that our group does not have.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tidegate.api import convert
from tidegate.api.documents import documents
from tidegate.api.fields import OFFLINE
from tidegate.api.resources import API_VERSION, KINDS
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import SpecError
from tidegate.ports import GROUP

Json = Mapping[str, Any]
UNKNOWN_FIELD = "unknown field"
# Stands for standard input where a file is expected, as for kubectl.
STDIN = Path("-")
# Fields of every Kubernetes object, and of its metadata.
OBJECT_FIELDS = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
METADATA_FIELDS = frozenset(
    {
        *("name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences"),
        *("uid", "resourceVersion", "generation", "selfLink", "managedFields"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """Our objects in the files; kinds of other groups are skipped."""

    accelerators: Mapping[str, Accelerator]
    deployments: Mapping[Key, DeploymentSpec]


def files(path: Path) -> list[Path]:
    """The file itself; for a folder, every file `*.yaml` and `*.yml` directly in it, by name."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())


def load(*paths: Path, offline: bool = True) -> Manifests:
    """
    The custom resources in files and folders.

    Args:
        paths: Files or folders, or `STDIN`; what is named twice is read once.
        offline: As in `convert.deployment_spec`.

    Raises:
        SpecError: names file, object, field, value and what is allowed.
    """
    found = {file.resolve(): file for path in paths for file in files(path)}
    return _collect({_name(file): _text(file) for file in found.values()}, offline=offline)


def loads(text: str, *, source: str = "input", offline: bool = True) -> Manifests:
    """The custom resources in a text; `source` is its name in errors."""
    return _collect({source: text}, offline=offline)


def _name(file: Path) -> str:
    return "standard input" if file == STDIN else str(file)


def _text(file: Path) -> str:
    try:
        return (sys.stdin.buffer.read() if file == STDIN else file.read_bytes()).decode("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SpecError(field=_name(file), value=None, allowed=f"must be readable UTF-8: {fault}") from None


def _collect(texts: Mapping[str, str], *, offline: bool) -> Manifests:
    found = _Collection(offline=offline)
    for source, text in texts.items():
        for number, document in enumerate(documents(text, source), start=1):
            for resource in _ours(document):
                try:
                    found.add(resource, source)
                except SpecError as fault:
                    where = f"{source}: {_called(resource, number)}: {fault.field}"
                    raise SpecError(field=where, value=fault.value, allowed=fault.allowed) from None
    return Manifests(accelerators=found.accelerators, deployments=found.deployments)


@dataclass(slots=True, kw_only=True)
class _Collection:
    """What was read so far, and the source of each object."""

    offline: bool
    accelerators: dict[str, Accelerator] = field(default_factory=dict)
    deployments: dict[Key, DeploymentSpec] = field(default_factory=dict)
    sources: dict[str | Key, str] = field(default_factory=dict)

    def add(self, document: Json, source: str) -> None:
        """Add one of our objects; SpecError if it is invalid or already there."""
        _check_kind(document)
        _reject_unknown(document, offline=self.offline)
        if document["kind"] == "AcceleratorClass":
            accelerator = convert.accelerator_of(document, offline=self.offline)
            self._claim(accelerator.name, source)
            self.accelerators[accelerator.name] = accelerator
        else:
            spec = convert.deployment_of(document, offline=self.offline)
            self._claim(spec.key, source)
            self.deployments[spec.key] = spec

    def _claim(self, name: str | Key, source: str) -> None:
        if name in self.sources:
            allowed = f"already defined in {self.sources[name]}; each object may be defined only once"
            raise SpecError(field="metadata.name", value=str(name), allowed=allowed)
        self.sources[name] = source


def _ours(document: object) -> Iterator[Json]:
    """The objects of our group in a document: the document itself, or the items of a list."""
    if not isinstance(document, Mapping):
        return
    version, kind = document.get("apiVersion"), document.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list):
        # The items of a list of one kind need not repeat it.
        inherited = {"apiVersion": version, "kind": kind.removesuffix("List")} if kind != "List" else {}
        for item in document["items"]:
            yield from _ours({**inherited, **item} if isinstance(item, Mapping) else item)
    elif version.partition("/")[0] == GROUP if isinstance(version, str) else kind in [*KINDS]:
        yield document


def _called(document: Json, number: int) -> str:
    """Name of an object in errors: `InferenceDeployment chat`, or the number of its document."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f"{document.get('kind')} {name}" if isinstance(name, str) else f"document {number}"


def _check_kind(document: Json) -> None:
    """SpecError for a version or kind that our group does not have."""
    for name, known in (("apiVersion", [API_VERSION]), ("kind", [*KINDS])):
        if document.get(name) not in known:
            raise SpecError(field=name, value=document.get(name), allowed=f"must be {' or '.join(known)}")


def _reject_unknown(document: Json, *, offline: bool) -> None:
    """SpecError for a field that the API does not have, usually a typing error that would silently change the plan."""
    metadata = document.get("metadata")
    for path, there, known in (("", document, OBJECT_FIELDS), ("metadata.", metadata, METADATA_FIELDS)):
        for name in there if isinstance(there, Mapping) else ():
            if name not in known:
                raise SpecError(field=f"{path}{name}", value=None, allowed=UNKNOWN_FIELD)
    body = {"metadata": {"name": "any"}, "spec": document.get("spec")}
    try:
        KINDS[document["kind"]].model_validate(
            body, context={OFFLINE: offline}, by_alias=True, by_name=False, extra="forbid"
        )
    except ValidationError as fault:
        extra = [error for error in fault.errors() if error["type"] == "extra_forbidden"]
        if extra:
            raise SpecError(field=convert.path_of(extra[0]), value=None, allowed=UNKNOWN_FIELD) from None
