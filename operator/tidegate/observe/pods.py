"""
Pods by label, for one look at the cluster.

In:    all pods, selectors, and the workloads of tiers.
Out:   the pods that match. If a pod matches the selectors of two tiers' workloads (both say `app: chat`), it belongs to
       the one that created it.
Rules: pure. Nearly every selector requires an exact value of some label; an index by that label keeps a look at a
       thousand workloads in one namespace from walking over its pods a thousand times.
"""

from collections import defaultdict
from collections.abc import Iterable

from tidegate.observe.objects import PodView
from tidegate.observe.selectors import Selector
from tidegate.ports import ObjectRef


class PodIndex:
    """
    An index that is built label by label, as selectors need them.

    Args:
        pods: Every pod.
        workloads: The workloads of all tiers.
    """

    def __init__(self, pods: Iterable[PodView], workloads: Iterable[ObjectRef] = ()) -> None:
        self._pods = list(pods)
        self._makers = {(ref.namespace, _maker(ref)) for ref in workloads}
        self._by_label: dict[str, dict[tuple[str, str | None], list[PodView]]] = {}

    def select(self, namespace: str, selector: Selector, *, of: ObjectRef | None = None) -> tuple[PodView, ...]:
        """
        Pods of a namespace that a selector matches; with `of`, without those that another tier's workload created.
        """
        if not selector.requirements:
            return ()
        if (exact := selector.exact) is None:
            candidates: Iterable[PodView] = (pod for pod in self._pods if pod.namespace == namespace)
        else:
            key, value = exact
            candidates = self._labelled(key).get((namespace, value), ())
        found = (pod for pod in candidates if selector.matches(pod.labels))
        return tuple(found) if of is None else tuple(pod for pod in found if not self._is_anothers(pod, of))

    def _is_anothers(self, pod: PodView, workload: ObjectRef) -> bool:
        """Whether the workload of another tier created it."""
        return pod.maker != _maker(workload) and (pod.namespace, pod.maker) in self._makers

    def _labelled(self, key: str) -> dict[tuple[str, str | None], list[PodView]]:
        """Pods by namespace and value of one label."""
        if key not in self._by_label:
            index = self._by_label[key] = defaultdict(list)
            for pod in self._pods:
                if key in pod.labels:
                    index[pod.namespace, pod.labels[key]].append(pod)
        return self._by_label[key]


def _maker(workload: ObjectRef) -> str:
    """In the form of `PodView.maker`."""
    return f"{workload.kind}/{workload.name}"
