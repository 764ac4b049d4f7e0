"""
Traffic: requests that come when they come, and what their clients saw.

Question: did users get what was promised? Enters: arrivals with lengths. Leaves: one outcome per request, and from
those attainment, percentiles and good tokens. This is the truth that the operator's own figures are compared with.
May import: domain, aiohttp, numpy.

    arrivals    a generated day, or a CSV file
    replay      open loop: an arrival does not wait for earlier answers
    outcomes    what one client saw, and what many saw together
"""

from tidegate.sandbox.traffic.arrivals import Arrival, day, read_csv
from tidegate.sandbox.traffic.outcomes import Outcome, Summary, summary
from tidegate.sandbox.traffic.replay import Target, replay

__all__ = ["Arrival", "Outcome", "Summary", "Target", "day", "read_csv", "replay", "summary"]
