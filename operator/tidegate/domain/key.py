"""The name of a deployment."""

from typing import NamedTuple


class Key(NamedTuple):
    """
    Namespace and name of one InferenceDeployment; unique in a fleet.

    A tuple, because it is hashed some twenty times per deployment and tick, and hashing a tuple runs no Python code.
    """

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Key":
        """The inverse of `str`: `NAMESPACE/NAME`."""
        namespace, _, name = text.partition("/")
        return cls(namespace, name)
