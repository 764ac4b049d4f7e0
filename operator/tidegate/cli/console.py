"""The console on which commands print tables."""

from rich.console import Console

# Wider than any table. Otherwise rich would truncate names and numbers to the width of the terminal, or to 80 columns
# in a pipe; now the terminal wraps long lines instead.
WIDTH = 1000


def console() -> Console:
    """Standard output, on which tables are never truncated, not even in a pipe."""
    return Console(width=WIDTH, highlight=False, markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """A text that somebody else wrote, its control characters escaped: it must not be able to steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
