"""
How late an engine's steps end, and how much of that the next steps may make up for.

A step should end at its start plus the law's time. The next one starts at that time, not when the process woke up, so
that timer inaccuracy does not accumulate; the difference is the engine's lag. The lag is reported, because latencies of
a server with much lag are those of this machine, not of the accelerator.
"""

from dataclasses import dataclass

# Largest lag that the next steps may make up for, s. With more, a real stall would be followed by a burst of steps.
CATCH_UP_S = 0.1
LATE_S, LATE_SHARE = 0.005, 0.1


@dataclass(slots=True)
class Lag:
    """
    Lag of all steps so far: count, number of late steps, sum and maximum.

    A step is late if a client could notice it: by more than a tenth of the step and more than a few milliseconds, which
    a busy event loop takes anyway.
    """

    steps: int = 0
    late: int = 0
    total_s: float = 0.0
    worst_s: float = 0.0

    def add(self, *, lag_s: float, step_s: float) -> None:
        """Count one step."""
        self.steps += 1
        self.late += lag_s > max(LATE_S, LATE_SHARE * step_s)
        self.total_s += lag_s
        self.worst_s = max(self.worst_s, lag_s)

    def figures(self) -> dict[str, float]:
        """The totals as a dictionary."""
        return {"steps": self.steps, "steps_late": self.late, "lag_total_s": self.total_s, "lag_worst_s": self.worst_s}
