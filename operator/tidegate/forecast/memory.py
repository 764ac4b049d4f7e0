"""
What the forecast remembers of one deployment: an immutable value of bounded size, about 1.5 KiB of JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.domain.remembered import number, optional
from tidegate.forecast import codes
from tidegate.forecast.experts import EXPERTS, Levels
from tidegate.forecast.season import DAILY, WEEKLY, Season, neighbours
from tidegate.forecast.sketch import BINS
from tidegate.forecast.track import FRESH, HORIZONS_S, PENDING_MAX, Pending, Track, track

NO_LOAD = Levels(0.0, 0.0, 0.0, 0.0)
NO_SEASON = Season()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    The requests that finished in one window.

    Args:
        time_s: End of the window, unix seconds.
        finished: Number of requests.
        prompt_tokens, output_tokens: Mean lengths.
    """

    time_s: float
    finished: float
    prompt_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    The request shape, smoothed.

    Args:
        prompt_tokens, output_tokens: Means per request; None: no request has finished yet.
        prompt_variance, output_variance: Squared coefficients of variation of the lengths.
        dispersion: Index of dispersion of the counts in a window (variance / mean), >= 0; 1 is Poisson.
        seen_s: Seconds of observation in which requests finished, at most a day; a history of rates adds none.
        unrest: Mean squared change of requests in flight from look to look, in units of `demand.chance`, >= 0.
        batch: The batch that the next one is compared with; None: there is none.
    """

    prompt_tokens: float | None = None
    output_tokens: float | None = None
    prompt_variance: float = 1.0
    output_variance: float = 1.0
    dispersion: float = 1.0
    seen_s: float = 0.0
    unrest: float = 1.0
    batch: Batch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastMemory:
    """
    The state of one deployment's forecast.

    Args:
        time_s: When load was last observed, unix seconds; None: never.
        levels: The load then, and its smoothed levels.
        usual_rps, usual_s: Mean load over about a day, and the seconds that are in it so far.
        record_rps: Highest fast level so far, with a half-life of a week.
        queued: Requests that waited then.
        in_flight: Requests running or waiting at the last look; None: not known.
        looked_s: Time of that look, unix seconds (a metric is older than the tick that reads it); None: not known.
        idle_since_s: Since when there are no requests, neither arriving nor in flight; None: there is traffic.
        shape: The request shape.
        season: Daily and weekly season.
        tracks: One record per horizon of `track.HORIZONS_S`.
    """

    time_s: float | None = None
    levels: Levels = NO_LOAD
    usual_rps: float = 0.0
    usual_s: float = 0.0
    record_rps: float = 0.0
    queued: float = 0.0
    in_flight: float | None = None
    looked_s: float | None = None
    idle_since_s: float | None = None
    shape: Shape = Shape()
    season: Season = NO_SEASON
    tracks: tuple[Track, ...] = FRESH

    def look_age_s(self, time_s: float) -> float | None:
        """Age of the last look at requests in flight, s; None: not known."""
        return None if self.looked_s is None else time_s - self.looked_s

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` gives back an equal memory."""
        shape, season, levels = self.shape, self.season, self.levels
        batch = shape.batch
        return {
            "time": self.time_s,
            "levels": [levels.last, levels.fast, levels.mid, levels.slow],
            "usual": [self.usual_rps, self.usual_s, self.record_rps],
            "queue": [self.queued, self.in_flight],
            "looked": None if self.time_s is None else self.look_age_s(self.time_s),
            "idle": self.idle_since_s,
            "shape": [
                shape.prompt_tokens,
                shape.output_tokens,
                shape.prompt_variance,
                shape.output_variance,
                shape.dispersion,
                shape.seen_s,
                shape.unrest,
            ],
            "batch": None
            if batch is None
            else [batch.time_s, batch.finished, batch.prompt_tokens, batch.output_tokens],
            "daily": codes.pack(season.daily),
            "weekly": codes.pack(season.weekly, kind="B"),
            "slot": [season.slot, season.requests, season.seen_s],
            "tracks": [_track_json(record) for record in self.tracks],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "ForecastMemory":
        """The memory that `to_json` wrote. Raises KeyError, TypeError or ValueError if it is damaged."""
        last, fast, mid, slow = _numbers(value["levels"], 4)
        usual_rps, usual_s, record_rps = _numbers(value["usual"], 3)
        queued, in_flight = _optionals(value["queue"], 2)
        prompt, output, prompt_variance, output_variance, dispersion, shape_s, unrest = _optionals(value["shape"], 7)
        tracks = value["tracks"]
        if not isinstance(tracks, list) or len(tracks) != len(HORIZONS_S):
            raise ValueError("there must be one record per horizon")
        time_s, age_s = _optionals([value["time"], value["looked"]], 2)
        return cls(
            time_s=time_s,
            levels=Levels(last, fast, mid, slow),
            usual_rps=usual_rps,
            usual_s=usual_s,
            record_rps=record_rps,
            queued=number(queued),
            in_flight=in_flight,
            looked_s=None if time_s is None or age_s is None else time_s - age_s,
            idle_since_s=optional(value["idle"]),
            shape=Shape(
                prompt_tokens=prompt,
                output_tokens=output,
                prompt_variance=number(prompt_variance),
                output_variance=number(output_variance),
                dispersion=number(dispersion),
                seen_s=number(shape_s),
                unrest=number(unrest),
                batch=_batch(value["batch"]),
            ),
            season=_season(value),
            tracks=tuple(_track(index, part) for index, part in enumerate(tracks)),
        )


def _batch(value: object) -> Batch | None:
    if value is None:
        return None
    time_s, finished, prompt, output = _numbers(value, 4)
    return Batch(time_s=time_s, finished=finished, prompt_tokens=prompt, output_tokens=output)


def _season(value: Mapping[str, object]) -> Season:
    daily = codes.unpack(value["daily"], length=DAILY)
    weekly = codes.unpack(value["weekly"], length=WEEKLY, kind="B")
    slot, requests, seen_s = _numbers(value["slot"], 3)
    return Season(
        daily=daily,
        weekly=weekly,
        slot=int(slot),
        requests=requests,
        seen_s=seen_s,
        around=neighbours(daily, weekly, int(slot)),
    )


def _track_json(record: Track) -> list[str]:
    made = codes.pack([record.written_s, *(pending.made_s for pending in record.pending)], kind="I")
    expected = codes.pack([code for pending in record.pending for code in pending.codes])
    return [made, expected, codes.pack(record.losses), codes.pack(record.sketch)]


def _track(index: int, value: object) -> Track:
    if not isinstance(value, list) or len(value) != 4 or not isinstance(value[0], str):
        raise TypeError("a record must be a list of four strings")
    made_text, expected_text, losses_text, sketch_text = value
    count, width = len(made_text) // 5 - 1, len(EXPERTS) + 1
    if not 0 <= count <= PENDING_MAX:
        raise ValueError(f"{count} pending forecasts")
    made = codes.unpack(made_text, length=count + 1, kind="I")
    expected = codes.unpack(expected_text, length=count * width)
    sketch = codes.unpack(sketch_text, length=BINS)
    if not any(sketch):
        raise ValueError("a record of errors is never empty")
    return track(
        index=index,
        written_s=made[0],
        pending=tuple(Pending.of(made[i + 1], expected[i * width : (i + 1) * width]) for i in range(count)),
        losses=codes.unpack(losses_text, length=len(EXPERTS)),
        sketch=sketch,
    )


def _optionals(value: object, length: int) -> list[float | None]:
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"not a list of {length} numbers")
    return [optional(part) for part in value]


def _numbers(value: object, length: int) -> list[float]:
    return [number(part) for part in _optionals(value, length)]
