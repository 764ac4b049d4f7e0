"""
Traffic: open-loop requests, and what their clients saw.

Question: did users get what was promised?
Enters:   arrivals with lengths.
Leaves:   one outcome per request; from these attainment, percentiles and good tokens. They are the reference for the
          operator's own figures.
May import: domain, aiohttp, numpy.

    arrivals    a generated day, or a CSV file
    replay      open loop: an arrival does not wait for earlier answers
    outcomes    one client's outcome, and summaries
"""

from tidegate.sandbox.traffic.arrivals import Arrival, day, read_csv
from tidegate.sandbox.traffic.outcomes import Outcome, Summary, summary
from tidegate.sandbox.traffic.replay import Target, replay

__all__ = ["Arrival", "Outcome", "Summary", "Target", "day", "read_csv", "replay", "summary"]
