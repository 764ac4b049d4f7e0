"""
Pods by label, for one look.

In:    all pods, and selectors.
Out:   the pods that match.
Rules: pure. A selector names at least one label exactly nearly always; an index by that label keeps a look at a
       thousand workloads in one namespace from being a thousand walks over its pods.
"""

from collections import defaultdict
from collections.abc import Iterable

from tidegate.observe.objects import PodView
from tidegate.observe.selectors import Selector


class PodIndex:
    """
    An index that is built label by label, as selectors ask for them.

    Args:
        pods: Every pod.
    """

    def __init__(self, pods: Iterable[PodView]) -> None:
        self._pods = list(pods)
        self._by_label: dict[str, dict[tuple[str, str | None], list[PodView]]] = {}

    def select(self, namespace: str, selector: Selector) -> tuple[PodView, ...]:
        """Pods of a namespace that a selector matches."""
        if not selector.requirements:
            return ()
        if (exact := selector.exact) is None:
            candidates: Iterable[PodView] = (pod for pod in self._pods if pod.namespace == namespace)
        else:
            key, value = exact
            candidates = self._labelled(key).get((namespace, value), ())
        return tuple(pod for pod in candidates if selector.matches(pod.labels))

    def _labelled(self, key: str) -> dict[tuple[str, str | None], list[PodView]]:
        """Pods by namespace and value of one label."""
        if key not in self._by_label:
            index = self._by_label[key] = defaultdict(list)
            for pod in self._pods:
                if key in pod.labels:
                    index[pod.namespace, pod.labels[key]].append(pod)
        return self._by_label[key]
