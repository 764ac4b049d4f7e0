"""
What users wrote, as it arrives.

In:    parsed resources from the handlers, and from time to time the list of what exists.
Out:   the policy: every deployment's last valid spec, every valid AcceleratorClass.
Rules: after an invalid change the last valid spec stays in the policy (its memory is kept), but the deployment is not
       planned. kopf never reports a deletion that it missed, so a sweep drops what a list does not contain.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.ports import AcceleratorResource, DeploymentResource

# (namespace, name) -> (uid, generation), as listed.
Listed = Mapping[tuple[str, str], tuple[str, int]]


@dataclass(slots=True)
class FleetInventory:
    """
    Implements `Inventory`.

    Args:
        changed: Called when a spec, an annotation or the set of objects changed.
    """

    changed: Callable[[], None] = lambda: None
    deployments: dict[Key, DeploymentResource] = field(default_factory=dict)
    accelerators: dict[str, AcceleratorResource] = field(default_factory=dict)
    _valid: dict[Key, DeploymentSpec] = field(default_factory=dict)
    _swept: dict[str, int] = field(default_factory=dict)
    _dropped: set[str] = field(default_factory=set)

    def put_deployment(self, resource: DeploymentResource) -> None:
        """Remember a deployment; wakes the planner unless it is the echo of our own status write."""
        before = self.deployments.get(resource.key)
        self.deployments[resource.key] = resource
        if before is not None and before.uid != resource.uid:
            self._valid.pop(resource.key, None)
        if isinstance(resource.spec, DeploymentSpec):
            self._valid[resource.key] = resource.spec
        if before is None or _user_input(before) != _user_input(resource):
            self.changed()

    def drop_deployment(self, key: Key, uid: str) -> None:
        """Forget a deployment, unless another object has its name by now."""
        self._dropped.add(uid)
        known = self.deployments.get(key)
        if known is not None and known.uid == uid:
            del self.deployments[key]
            self._valid.pop(key, None)
            self.changed()

    def put_accelerator(self, resource: AcceleratorResource) -> None:
        """Remember a class."""
        before = self.accelerators.get(resource.name)
        self.accelerators[resource.name] = resource
        if before is None or (before.uid, before.generation) != (resource.uid, resource.generation):
            self.changed()

    def drop_accelerator(self, name: str, uid: str) -> None:
        """Forget a class."""
        self._dropped.add(uid)
        known = self.accelerators.get(name)
        if known is not None and known.uid == uid:
            del self.accelerators[name]
            self.changed()

    def classes(self) -> dict[str, Accelerator]:
        """Every valid class, `capacity` as the user states it."""
        return {
            name: resource.accelerator
            for name, resource in self.accelerators.items()
            if isinstance(resource.accelerator, Accelerator)
        }

    def specs(self) -> dict[Key, DeploymentSpec]:
        """The last valid spec of every deployment that has had one."""
        return dict(self._valid)

    def planned(self, classes: Collection[str]) -> dict[Key, DeploymentSpec]:
        """Deployments that can be planned now: the current spec is valid and every class it names exists."""
        return {
            key: spec
            for key, spec in self._valid.items()
            if isinstance(self.deployments[key].spec, DeploymentSpec)
            and all(tier.accelerator in classes for tier in spec.tiers)
        }

    def sweep(self, deployments: Listed, accelerators: Listed, *, before: Collection[str]) -> int:
        """
        Drop what a complete list does not contain.

        Args:
            deployments, accelerators: As listed.
            before: uids that were met before the list was requested; newer objects are left alone.

        Returns:
            Number of objects dropped.
        """
        ghosts = 0
        for key, resource in list(self.deployments.items()):
            if resource.uid in before and deployments.get((key.namespace, key.name), ("", 0))[0] != resource.uid:
                self.drop_deployment(key, resource.uid)
                ghosts += 1
        for name, class_ in list(self.accelerators.items()):
            if class_.uid in before and accelerators.get(("", name), ("", 0))[0] != class_.uid:
                self.drop_accelerator(name, class_.uid)
                ghosts += 1
        self._swept = dict([*deployments.values(), *accelerators.values()])
        self._dropped -= set(before) - self._swept.keys()
        return ghosts

    def uids(self) -> set[str]:
        """Every known uid."""
        return set(self._generations())

    def met(self) -> set[str]:
        """Every known uid, and those of dropped objects that a list may still contain."""
        return self.uids() | self._dropped

    def behind(self) -> int:
        """Number of objects of the last sweep that the handlers have not delivered, or only in an older generation."""
        known = self._generations()
        return sum(
            known.get(uid, -1) < generation for uid, generation in self._swept.items() if uid not in self._dropped
        )

    def _generations(self) -> dict[str, int]:
        known: list[DeploymentResource | AcceleratorResource] = [
            *self.deployments.values(),
            *self.accelerators.values(),
        ]
        return {resource.uid: resource.generation for resource in known}


def _user_input(resource: DeploymentResource) -> tuple[object, ...]:
    return resource.uid, resource.generation, dict(resource.annotations)
