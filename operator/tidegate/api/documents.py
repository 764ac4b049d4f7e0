"""
YAML as Kubernetes reads it.

In:    text with any number of documents.
Out:   plain JSON values, or a SpecError that names the source and the line.
Rules: a duplicate key in a mapping is an error; a date and a bare `=` are text, because JSON has neither.
"""

from typing import Any

import yaml

from tidegate.errors import SpecError

# Values that YAML has and JSON does not: a date, and the bare `=` that occurs in CRDs of Prometheus' operator.
_NOT_JSON = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> Any:
        """Checked here, because after merge keys are resolved, merged keys cannot be told from literal ones."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} appears twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_JSON]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(text: str, source: str) -> list[Any]:
    """All documents of a text; `source` is its name in errors."""
    try:
        return list(yaml.load_all(text, _Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise SpecError(field=source, value=None, allowed=f"must be valid YAML: {fault}") from None
