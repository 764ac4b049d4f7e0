"""
Units used inside, and the few constants that convert to them.

Inside the product a time is in seconds, a rate per second, a share in [0, 1]. Money is in the currency of the
AcceleratorClass prices, per hour if it is a price; `usd` in names stands for that currency. Conversion happens once, at
the edge (`api`, `observe`, `cli`).
"""

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86_400.0
SECONDS_PER_WEEK = 604_800.0
MILLISECONDS = 1e-3
MILLION = 1e6
KILO = 1e3
GIB = 2**30

# The planner's default interval. A replica is seen to be ready up to one tick after it is.
TICK_S = 15.0


def seconds(milliseconds: float) -> float:
    """Milliseconds as seconds."""
    return milliseconds * MILLISECONDS


def milliseconds(seconds_: float) -> float:
    """Seconds as milliseconds."""
    return seconds_ / MILLISECONDS
