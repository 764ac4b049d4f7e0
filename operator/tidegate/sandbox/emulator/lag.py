"""
How late an engine's steps end, and how much of that the next ones may make up for.

A step ends at its start plus the law's time. The next one starts where the last one ended, not where the machine woke
up, so that timer dust does not add up; how far it woke up too late is the engine's lag. A server that lags says so:
figures from it are figures about this machine, not about the accelerator.
"""

from dataclasses import dataclass

# How much lateness the next steps may make up for. More than a long step would hide a real stall behind a burst.
CATCH_UP_S = 0.1
LATE_S, LATE_SHARE = 0.005, 0.1


@dataclass(slots=True)
class Lag:
    """
    How late steps ended: worst and sum over `steps`, and how many were `late`.

    Late is what a client could see: more than a tenth of the step, and more than a busy event loop's own few
    milliseconds.
    """

    steps: int = 0
    late: int = 0
    total_s: float = 0.0
    worst_s: float = 0.0

    def add(self, *, lag_s: float, step_s: float) -> None:
        """Book one step."""
        self.steps += 1
        self.late += lag_s > max(LATE_S, LATE_SHARE * step_s)
        self.total_s += lag_s
        self.worst_s = max(self.worst_s, lag_s)

    def figures(self) -> dict[str, float]:
        """The same as plain values."""
        return {"steps": self.steps, "steps_late": self.late, "lag_total_s": self.total_s, "lag_worst_s": self.worst_s}
