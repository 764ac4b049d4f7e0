"""Where the commands that show tables write them."""

from rich.console import Console

# More than any table takes: a terminal wraps what is too long for it, rich would cut names and figures, in a
# pipe as if it were 80 wide.
WIDTH = 1000


def console() -> Console:
    """Standard output, for tables whose names and figures are whole, in a pipe too."""
    return Console(width=WIDTH, highlight=False, markup=False, soft_wrap=True)
