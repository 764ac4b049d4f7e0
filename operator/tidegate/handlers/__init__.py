"""
Where kopf meets the product: custom resources come in, and nothing goes out.

Question: what do users ask for right now?
Enters:   watch events of our two kinds. Leaves: parsed resources into an `Inventory`.
May import: api, ports, kopf. The handlers write nothing: no finalizer, no annotation, no index, no timer.
"""

from tidegate.handlers.parse import Parser
from tidegate.handlers.watch import make_registry, make_settings

__all__ = ["Parser", "make_registry", "make_settings"]
