"""
Make each step of a real vLLM engine take as long as the law says.

In:    vLLM's scheduler output for a step: how many tokens each request gets, and what it has computed so far.
Out:   the same step, which ends when it would end on an accelerator with this law.

The time of a step is the emulator's: both use `emulator.steps.step_s`. The content of a step is read from vLLM's
scheduler output, not from our scheduler, so that a difference in scheduling becomes visible. As in the emulator, while
the engine has work a step begins when the previous one ended by the law. So vLLM's own overhead on this CPU is part of
the step, as on an accelerator, where it overlaps with one.

Runs in vLLM's environment. Source of the structure: vllm/v1/core/sched/output.py.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Protocol

from tidegate.domain.law import PerformanceLaw
from tidegate.sandbox.emulator.lag import CATCH_UP_S, Lag
from tidegate.sandbox.emulator.steps import StepLoad, step_s

TOLD_EVERY_S = 0.5
# The figures that are written: lateness of steps so far, total time of steps (s), requests inside at the last step.
NOTHING_KEPT = {**Lag().figures(), "busy_s": 0.0, "running": 0.0}


class NewRequest(Protocol):
    """A request that is scheduled for the first time."""

    req_id: str
    prompt_token_ids: Sequence[int] | None
    num_computed_tokens: int


class KnownRequests(Protocol):
    """Requests that were scheduled before, as parallel lists."""

    req_ids: Sequence[str]
    num_computed_tokens: Sequence[int]
    num_output_tokens: Sequence[int]


class Plan(Protocol):
    """vLLM's scheduler output for one step."""

    scheduled_new_reqs: Sequence[NewRequest]
    scheduled_cached_reqs: KnownRequests
    num_scheduled_tokens: Mapping[str, int]
    finished_req_ids: AbstractSet[str]


class Pace:
    """
    Paces the steps of one engine.

    Args:
        law: Its performance law.
        clock: Returns seconds of a monotonic clock.
        sleep: Sleeps this many seconds.
        told: File to which the figures in `kept` are written, about twice a second; None: not written.
    """

    def __init__(
        self,
        law: PerformanceLaw,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        told: Path | None = None,
    ) -> None:
        self._law, self._clock, self._sleep, self._told = law, clock, sleep, told
        self._prompts: dict[str, int] = {}
        self._inside: AbstractSet[str] = frozenset()
        self._end_s = self._length_s = 0.0
        self._told_s = -TOLD_EVERY_S
        self._lag = Lag()
        self.kept = dict(NOTHING_KEPT)

    def begin(self, plan: Plan) -> None:
        """Begin a step; a step without tokens takes no time."""
        busy = bool(self._inside - plan.finished_req_ids)
        for gone in plan.finished_req_ids:
            self._prompts.pop(gone, None)
        load = self._load(plan)
        # A preempted request is not in the plan but still in the engine.
        self._inside = frozenset(self._prompts)
        now_s = self._clock()
        start_s = max(self._end_s, now_s - CATCH_UP_S) if busy else now_s
        self._length_s = step_s(self._law, load) if plan.num_scheduled_tokens else 0.0
        self._end_s = start_s + self._length_s

    def end(self) -> None:
        """Wait until the step ends by the law."""
        if self._length_s == 0.0:
            return
        self._sleep(max(0.0, self._end_s - self._clock()))
        self._lag.add(lag_s=max(0.0, self._clock() - self._end_s), step_s=self._length_s)
        busy_s = self.kept["busy_s"] + self._length_s
        self.kept = {**self._lag.figures(), "busy_s": busy_s, "running": len(self._inside)}
        self._tell()

    def _load(self, plan: Plan) -> StepLoad:
        decodes = context = 0
        for new in plan.scheduled_new_reqs:
            assert new.prompt_token_ids is not None, "prompts come as tokens"
            self._prompts[new.req_id] = len(new.prompt_token_ids)
        known = plan.scheduled_cached_reqs
        for name, computed, out in zip(known.req_ids, known.num_computed_tokens, known.num_output_tokens, strict=True):
            # One token left to compute: a decode. More: a prompt chunk, or a request that is recomputed.
            if out > 0 and self._prompts[name] + out - computed == 1:
                decodes += 1
                context += computed
        total = sum(plan.num_scheduled_tokens.values())
        return StepLoad(decodes=decodes, context_tokens=context, prefill_tokens=total - decodes)

    def _tell(self) -> None:
        now_s = self._clock()
        if self._told is not None and now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            aside = self._told.with_suffix(".new")
            aside.write_text(json.dumps(self.kept))
            aside.replace(self._told)


def install(pace: Pace) -> None:
    """Pace all engines of this process and its children from now on."""
    from vllm.v1.executor.uniproc_executor import UniProcExecutor  # noqa: PLC0415  only there

    execute, sample = UniProcExecutor.execute_model, UniProcExecutor.sample_tokens

    def execute_model(self: Any, scheduler_output: Any, non_block: bool = False) -> Any:
        pace.begin(scheduler_output)
        return execute(self, scheduler_output, non_block)

    def sample_tokens(self: Any, grammar_output: Any, non_block: bool = False) -> Any:
        # A step includes the forward pass and the sampling.
        sampled = sample(self, grammar_output, non_block)
        pace.end()
        return sampled

    UniProcExecutor.execute_model, UniProcExecutor.sample_tokens = execute_model, sample_tokens
