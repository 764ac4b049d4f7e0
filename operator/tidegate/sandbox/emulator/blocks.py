"""
The KV cache of one replica: blocks of tokens, shared between requests with a common prefix.

Only full blocks of a prompt are shared. A block that no request holds keeps its content until the space is needed;
the least recently used is evicted first. Block 0 is never allocated, as in vLLM, so usage is relative to blocks - 1.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile


class BlockPool:
    """
    Counts free and held blocks, and knows which contents are cached.

    Args:
        blocks: Total number of blocks, >= 2.
        caching: Whether prompts share blocks (vLLM's prefix caching).
    """

    def __init__(self, *, blocks: int, caching: bool) -> None:
        assert blocks >= 2, "one block is never given out"
        self.usable = blocks - 1
        self.caching = caching
        self._free = self.usable
        self._held: dict[int, int] = {}  # content -> requests that hold it
        self._idle: OrderedDict[int, None] = OrderedDict()  # content that no request holds, oldest first; in _free

    @property
    def usage(self) -> float:
        """Share of the blocks held by requests, in [0, 1]."""
        return 1.0 - self._free / self.usable

    @property
    def free(self) -> int:
        """Blocks that can be allocated now."""
        return self._free

    def cached_prefix(self, contents: Sequence[int]) -> int:
        """How many of the first blocks are cached; 0 if caching is off."""
        if not self.caching:
            return 0
        return sum(1 for _ in takewhile(lambda c: c in self._held or c in self._idle, contents))

    def hold_cached(self, contents: Sequence[int]) -> None:
        """Hold blocks that `cached_prefix` found."""
        for content in contents:
            if content in self._idle:
                del self._idle[content]
                self._free -= 1
            self._held[content] = self._held.get(content, 0) + 1

    def idle_among(self, contents: Sequence[int]) -> int:
        """How many of these contents count as free blocks now, and would not if they were held."""
        return sum(1 for content in contents if content in self._idle)

    def take(self, count: int) -> bool:
        """Allocate blocks; False, without allocating any, if too few are free."""
        if count > self._free:
            return False
        self._free -= count
        while len(self._idle) > self._free:
            self._idle.popitem(last=False)
        return True

    def publish(self, content: int) -> bool:
        """Make an allocated block that is now full available to others; False if its content is cached already."""
        if not self.caching or content in self._held or content in self._idle:
            return False
        self._held[content] = 1
        return True

    def release(self, *, contents: Sequence[int], anonymous: int) -> None:
        """Free held contents, which stay cached until the space is needed, and blocks without shareable content."""
        self._free += anonymous
        for content in reversed(contents):
            self._held[content] -= 1
            if self._held[content] == 0:
                del self._held[content]
                self._idle[content] = None
                self._free += 1

    def forget(self) -> None:
        """Evict all content that no request holds (vLLM's reset of the prefix cache)."""
        self._idle.clear()
