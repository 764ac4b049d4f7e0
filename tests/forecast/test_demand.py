"""Offered load, derived from one observation."""

import pytest

from tests.forecast.builders import SILENT, gateway, serving, silence
from tidegate.domain.forecast import DemandSample
from tidegate.domain.observation import DeploymentObservation, GatewayReading, Missing, TierState
from tidegate.forecast.demand import SURGE_SPREADS, chance, offered, unrest_of

STARTING = TierState(starting=1)
MUTE = TierState(ready=1, reading=SILENT)


def sample(gateway_seen: GatewayReading | None = None, **tiers: TierState) -> DemandSample | None:
    observation = DeploymentObservation(tiers=tiers, gateway=gateway_seen)
    return offered(observation, in_flight_before=10.0, before_age_s=23.0)


@pytest.mark.parametrize(
    ("observed", "arrival_rps", "partial"),
    [
        pytest.param(sample(a=serving(2.0), b=serving(3.0)), 5.0, False, id="tiers add up"),
        pytest.param(sample(a=serving(2.0, rejection_rps=1.5)), 3.5, False, id="a rejected request wanted service"),
        pytest.param(sample(a=serving(0.0)), 0.0, False, id="a zero that was read is a zero"),
        pytest.param(sample(a=serving(2.0), b=STARTING), 2.0, False, id="a tier without a ready replica has no load"),
        pytest.param(sample(a=serving(2.0), b=MUTE), 2.0, True, id="a silent tier makes the sum a lower bound"),
        pytest.param(sample(a=serving(2.0, age_s=600.0), b=serving(1.0)), 1.0, True, id="an old reading is silence"),
        pytest.param(sample(a=serving(2.0, age_s=200.0, window_s=300.0)), 2.0, False, id="a window may be as old"),
        pytest.param(sample(gateway(4.0), a=MUTE), 4.0, False, id="the gateway speaks for silent tiers"),
        pytest.param(sample(gateway(4.0), a=serving(2.0)), 4.0, False, id="the gateway sees what no tier got"),
        pytest.param(sample(gateway(1.0), a=serving(2.0)), 2.0, False, id="what tiers got was offered"),
        pytest.param(sample(gateway(0.2), a=STARTING), 0.2, False, id="at zero replicas only the gateway knows"),
        pytest.param(sample(gateway(None), a=serving(2.0), b=MUTE), 2.0, True, id="a queue says nothing of the silent"),
        pytest.param(sample(gateway(None, queued=3.0), a=STARTING), 0.0, False, id="at zero a queue is enough"),
        pytest.param(
            sample(a=serving(None, completion_rps=3.0, running=20.0, waiting=30.0)),
            3.0 + (50.0 - 10.0) / 20.0,
            False,
            id="where completions are counted the growth of the queue is load",
        ),
        pytest.param(
            sample(a=serving(None, completion_rps=1.0, running=0.0, waiting=0.0)),
            0.5,
            False,
            id="a shrinking queue is load that came before",
        ),
        pytest.param(
            sample(a=serving(None, completion_rps=0.1, running=0.0, waiting=0.0)),
            0.0,
            False,
            id="load is not negative",
        ),
        pytest.param(sample(a=serving(None), b=serving(1.0)), 1.0, True, id="a tier that tells no rate is not zero"),
        pytest.param(
            sample(a=serving(2.0, completion_rps=2.0, running=30.0, waiting=20.0)),
            2.0 + (50.0 - 10.0) / 20.0,
            False,
            id="a burst shows in what is in flight before it shows in a rate",
        ),
        pytest.param(
            sample(a=serving(2.0, completion_rps=2.0, running=25.0, waiting=0.0)),
            2.0,
            False,
            id="growth that may be chance is no burst",
        ),
    ],
)
def test_offered_load(observed: DemandSample | None, arrival_rps: float, partial: bool) -> None:
    assert observed is not None
    assert observed.arrival_rps == pytest.approx(arrival_rps)
    assert observed.partial is partial


@pytest.mark.parametrize(
    ("unrest", "arrival_rps"),
    [
        pytest.param(0.5, 4.0, id="where little moves usually it is a burst"),
        pytest.param(1.0, 4.0, id="where chance moves it too"),
        pytest.param(5.0, 2.0, id="where long prompts make such growth usual it is none"),
    ],
)
def test_growth_is_a_burst_only_where_it_is_unusual(unrest: float, arrival_rps: float) -> None:
    observation = DeploymentObservation(tiers={"a": serving(2.0, completion_rps=2.0, running=40.0, waiting=10.0)})
    observed = offered(observation, in_flight_before=10.0, before_age_s=23.0, unrest=unrest)
    assert observed is not None
    assert observed.arrival_rps == pytest.approx(arrival_rps)


@pytest.mark.parametrize(
    ("before_age_s", "arrival_rps"),
    [
        pytest.param(23.0, 4.0, id="over the time between the looks"),
        pytest.param(43.0, 3.0, id="however late they are read"),
        pytest.param(3.0, 2.0, id="not where it is the same look"),
        pytest.param(3.4, 2.0, id="nor where its age was rounded"),
        pytest.param(None, 2.0, id="nor without a look before"),
    ],
)
def test_growth_is_counted_from_look_to_look(before_age_s: float | None, arrival_rps: float) -> None:
    observation = DeploymentObservation(
        tiers={"a": serving(2.0, completion_rps=2.0, running=40.0, waiting=10.0, age_s=3.0)}
    )
    observed = offered(observation, in_flight_before=10.0, before_age_s=before_age_s)
    assert observed is not None
    assert observed.arrival_rps == pytest.approx(arrival_rps)


@pytest.mark.parametrize(
    ("before", "after", "usual", "unrest"),
    [
        pytest.param(50.0, 60.0, 1.0, 1.0, id="growth as chance makes it"),
        pytest.param(50.0, 40.0, 1.0, 1.0, id="a fall counts as much"),
        pytest.param(50.0, 500.0, 1.0, SURGE_SPREADS**2, id="a burst is not what usually happens"),
        pytest.param(0.0, 0.0, 1.0, 0.0, id="nothing in flight, nothing moves"),
    ],
)
def test_unrest_is_growth_in_units_of_chance(before: float, after: float, usual: float, unrest: float) -> None:
    assert chance(50.0) == 100.0
    assert unrest_of(before, after, usual=usual) == pytest.approx(unrest)


@pytest.mark.parametrize(
    "observation",
    [
        pytest.param(silence(), id="every tier silent and no gateway"),
        pytest.param(DeploymentObservation(tiers={"a": STARTING}), id="nothing is up and nobody watches the door"),
        pytest.param(silence(gateway=gateway(None)), id="every tier silent and a gateway that only tells who waits"),
        pytest.param(DeploymentObservation(tiers={"a": serving(None)}, gateway=gateway(None)), id="nor at the gateway"),
        pytest.param(DeploymentObservation(tiers={"a": serving(None)}), id="a reading without any rate"),
        pytest.param(
            DeploymentObservation(tiers={"a": TierState(ready=3, reading=Missing(reason="Stale"))}), id="stale metrics"
        ),
    ],
)
def test_without_metrics_demand_is_unknown(observation: DeploymentObservation) -> None:
    assert offered(observation, in_flight_before=None, before_age_s=None) is None


def test_requests_wait_at_tiers_and_at_the_gateway() -> None:
    observed = sample(gateway(1.0, queued=3.0), a=serving(1.0, waiting=4.0), b=serving(1.0))
    assert observed is not None
    assert observed.queued == 7.0
    assert observed.in_flight is None  # tier b does not say


def test_lengths_are_weighted_by_requests_finished() -> None:
    long = serving(1.0, completion_rps=1.0, prompt_tokens_mean=4000.0, output_tokens_mean=100.0)
    short = serving(3.0, completion_rps=3.0, prompt_tokens_mean=400.0, output_tokens_mean=500.0)
    observed = sample(a=long, b=short)
    assert observed is not None
    assert observed.prompt_tokens == pytest.approx(1300.0)
    assert observed.output_tokens == pytest.approx(400.0)
    assert observed.finished == pytest.approx(240.0)
