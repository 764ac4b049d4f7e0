"""
Pods by label, for one look.

In:    all pods, selectors, and the workloads of tiers.
Out:   the pods that match. Where the selectors of two tiers' workloads do (both say `app: chat`), a pod is of the one
       that made it.
Rules: pure. A selector names at least one label exactly nearly always; an index by that label keeps a look at a
       thousand workloads in one namespace from being a thousand walks over its pods.
"""

from collections import defaultdict
from collections.abc import Iterable

from tidegate.observe.objects import PodView
from tidegate.observe.selectors import Selector
from tidegate.ports import ObjectRef


class PodIndex:
    """
    An index that is built label by label, as selectors ask for them.

    Args:
        pods: Every pod.
        workloads: Those that tiers have.
    """

    def __init__(self, pods: Iterable[PodView], workloads: Iterable[ObjectRef] = ()) -> None:
        self._pods = list(pods)
        self._makers = {(ref.namespace, _maker(ref)) for ref in workloads}
        self._by_label: dict[str, dict[tuple[str, str | None], list[PodView]]] = {}

    def select(self, namespace: str, selector: Selector, *, of: ObjectRef | None = None) -> tuple[PodView, ...]:
        """Pods of a namespace that a selector matches; `of` a workload: without those that another tier's made."""
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
        """Whether a workload of another tier made it."""
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
    """As `PodView.maker` has it."""
    return f"{workload.kind}/{workload.name}"
