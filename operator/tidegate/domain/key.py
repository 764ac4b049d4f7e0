"""The name of a deployment."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Namespace and name of one InferenceDeployment; unique in a fleet."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Key":
        """The inverse of `str`: `NAMESPACE/NAME`."""
        namespace, _, name = text.partition("/")
        return cls(namespace, name)
