"""
Which fleet to run: the cheapest number of replicas per tier that keeps the promises, and when to move towards it.

Question: how many replicas of which tier should this deployment have now, and why?
Enters:   spec, replica states, tier estimates, demand forecast, gateway reading, memory of the last plan (`Problem`).
Leaves:   a `Decision` and the next `PlanMemory` per deployment.
May import: domain, units, errors; numpy and scipy for the search, croniter for schedules.
"""

from tidegate.plan.choose import choose
from tidegate.plan.memory import PlanMemory
from tidegate.plan.problem import Problem

__all__ = ["PlanMemory", "Problem", "choose"]
