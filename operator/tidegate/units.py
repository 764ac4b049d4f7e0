"""
Units used inside, and the few constants that convert to them.

Inside the product a time is in seconds, a rate per second, money in US dollars (per hour where it is a
price), a share in [0, 1]. Conversion happens once, at the edge (`api`, `observe`, `cli`).
"""

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86_400.0
SECONDS_PER_WEEK = 604_800.0
MILLISECONDS = 1e-3
MILLION = 1e6
KILO = 1e3
GIB = 2**30

# The planner's own pace. A replica asked for now is seen ready at the earliest one tick after it is.
TICK_S = 15.0


def seconds(milliseconds: float) -> float:
    """Milliseconds as seconds."""
    return milliseconds * MILLISECONDS


def milliseconds(seconds_: float) -> float:
    """Seconds as milliseconds."""
    return seconds_ / MILLISECONDS
