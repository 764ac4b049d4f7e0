"""
The command line of a vLLM replica: what the operator adds to the user's arguments.

In:    a managed tier of a deployment.
Out:   command, arguments, how it drains; findings about user arguments that are known to hurt.
Rules: pure. A flag that the user gives is not overridden. Flags that the image's version does not know are left out:
       vLLM refuses to start with an unknown one.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.actuate.findings import warning
from tidegate.domain.decision import Condition
from tidegate.domain.spec import DeploymentSpec, Slo, TierSpec
from tidegate.estimate.arguments import flags, parse, tensor_parallel

PORT = 8000
Version = tuple[int, int]

# First releases that know a flag. Graceful shutdown: vllm-project/vllm#34730, in v0.18.0. Buckets: found in 0.32.0.
SHUTDOWN_SINCE: Version = (0, 18)
BUCKETS_SINCE: Version = (0, 32)
# First releases that use the fast kernel also if the method is named (`auto_gptq.py` and `auto_awq.py` in
# `vllm/model_executor/layers/quantization`).
FAST_SINCE: Mapping[str, Version] = {"gptq": (0, 22), "awq": (0, 24)}

# Endpoints and the proxies that watch them need this long to stop sending requests to a terminating pod.
PRE_STOP_S = 15
# Without --shutdown-timeout, SIGTERM cuts off running requests, so it is delayed long enough for most answers.
PRE_STOP_WITHOUT_DRAIN_S = 60
# A replica exits as soon as its last request has ended; this only limits how long it waits.
DRAIN_S = 300
EXIT_S = 15

# Bucket edges per decade. Round targets are among them, so changing a target seldom restarts the replicas.
_MANTISSAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
_TTFT_DECADES, _TTFT_TAIL = (-2, -1, 0, 1), (100.0, 200.0, 400.0, 800.0)
_ITL_DECADES, _ITL_TAIL = (-3, -2, -1), (1.0, 2.5, 5.0, 10.0, 40.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """
    How one replica is started and stopped.

    Args:
        command: The program; not the image's entry point, which differs between images.
        args: Its arguments.
        port: Where it listens, according to them.
        pre_stop_s: How long a terminating pod still serves before SIGTERM.
        grace_s: When it is killed, counted from the start of `pre_stop_s`.
    """

    command: tuple[str, ...]
    args: tuple[str, ...]
    port: int
    pre_stop_s: int
    grace_s: int


def server(spec: DeploymentSpec, tier: TierSpec) -> Server:
    """The server of a managed tier."""
    assert tier.workload is not None, tier.name
    given = flags(tier.workload.args)
    version = version_of(tier.workload.image)
    drains = "--shutdown-timeout" in given or knows(version, SHUTDOWN_SINCE)
    own: dict[str, str] = {"--served-model-name": spec.model, "--port": str(PORT)}
    shared = tensor_parallel(parse(tier.workload.args), tier.accelerators_per_replica)
    if shared > 1:
        own["--tensor-parallel-size"] = str(shared)
    if knows(version, BUCKETS_SINCE):
        own["--custom-histogram-buckets"] = buckets(spec.slo)
    if drains:
        own["--shutdown-timeout"] = str(DRAIN_S)
    added = [word for flag, value in own.items() if flag not in given for word in (flag, value)]
    model = given.get("--model") or tier.workload.model or spec.model
    drain_s = _whole(given.get("--shutdown-timeout"), DRAIN_S) if drains else 0
    pre_stop_s = PRE_STOP_S if drains else PRE_STOP_WITHOUT_DRAIN_S
    return Server(
        command=("vllm", "serve"),
        args=(model, *added, *_without_model(tier.workload.args)),
        port=_whole(given.get("--port"), PORT),
        pre_stop_s=pre_stop_s,
        grace_s=pre_stop_s + drain_s + EXIT_S,
    )


def _without_model(args: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments without `--model`: up to 0.11.0 `vllm serve` takes the model only as its first argument."""
    at = [i for i, word in enumerate(args) if word.partition("=")[0] == "--model"]
    dropped = {*at, *(i + 1 for i in at if args[i] == "--model")}
    return tuple(word for i, word in enumerate(args) if i not in dropped)


def version_of(image: str) -> Version | None:
    """
    Release of vLLM by the image's tag; None if the tag does not tell (`latest`, a digest, another scheme).

    Every release so far is a 0.x. Other numbers are not vLLM's: NVIDIA's 25.10 contains vLLM 0.10, Red Hat's 3.0
    contains 0.8, and a company's own 1.4 any version.
    """
    name, _, _digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    found = re.match(r"v?0\.(\d+)(\.\d+)?([.+-]|rc|$)", tag)
    return (0, int(found[1])) if found else None


def knows(version: Version | None, since: Version) -> bool:
    """Whether a release certainly has what came with release `since`."""
    return version is not None and version >= since


def buckets(slo: Slo) -> str:
    """
    Edges of the latency histograms in seconds, including the targets, so that attainment is counted, not interpolated.

    Returns:
        JSON, the same text for the same targets.
    """
    return json.dumps(
        {
            "time_to_first_token": _edges(_TTFT_DECADES, _TTFT_TAIL, slo.ttft_s),
            "inter_token_latency": _edges(_ITL_DECADES, _ITL_TAIL, slo.itl_s),
        },
        separators=(",", ":"),
    )


def findings(tier: TierSpec) -> tuple[Condition, ...]:
    """User arguments that are known to hurt."""
    if tier.workload is None:
        return ()
    name = flags(tier.workload.args).get("--quantization", "")
    since = FAST_SINCE.get(name)
    if since is None or knows(version_of(tier.workload.image), since):
        return ()
    message = (
        f"tier {tier.name}: --quantization {name} forces a slow kernel before vLLM 0.{since[1]}; without the flag vLLM "
        f"reads the format from the checkpoint and uses the fast one ({name}_marlin)"
    )
    return (warning("SlowQuantization", message),)


def _edges(decades: tuple[int, ...], tail: tuple[float, ...], target_s: float) -> list[float]:
    grid = {float(f"{mantissa * 10.0**decade:.6g}") for decade in decades for mantissa in _MANTISSAS}
    return sorted(grid | set(tail) | {float(f"{target_s:.6g}")})


def _whole(text: str | None, otherwise: int) -> int:
    """The whole number in a text; `otherwise` if it is not one, or too long for a port or seconds."""
    return int(text) if text and text.isdecimal() and len(text) <= 9 else otherwise
