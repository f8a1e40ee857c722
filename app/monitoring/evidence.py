"""Say what the state knows about one version over one window: numbers with counts, no verdict.

Knows the monitor's state, windows and a version's reference; knows nothing of Ray, SQL or clocks.
Everything is as known to us at the end of the window: a label that became known or arrived later is
not looked at, whenever it was folded.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.records import ColumnDrift, Evaluation, Evidence
from app.contracts.rows import Contract
from app.contracts.shares import CHAMPION_ARMS
from app.contracts.times import MICROS_PER_DAY, micros_in, micros_of, moment
from app.data.profile import CategoryBins, Histogram, Profile
from app.monitoring.distinct import whole
from app.monitoring.drift import share, stability_index
from app.monitoring.fold import MARGIN_DAYS, forget, known_by_day
from app.monitoring.maturity import learn
from app.monitoring.outcomes import outcomes_of
from app.monitoring.performance import realised
from app.monitoring.state import FoldState
from app.sections import MonitoringConfig

_UNSEEN = 0


@dataclass(frozen=True)
class Window:
    """Predictions with start <= prediction time < end, as known at the end."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Reference:
    """What a version was when it was made: the figures that live ones are held against."""

    version: str
    profile: Profile
    evaluation: Evaluation
    trained_until: datetime


def due_windows(state: FoldState, watermark: datetime, config: MonitoringConfig) -> list[Window]:
    """List the windows that ended by the watermark and were not judged, oldest first.

    Windows end at midnight UTC, every `every_days` days counted from 1970, so that no restart and
    no first row moves them. A window in which no champion answered is not due.
    """
    grid = config.every_days * MICROS_PER_DAY
    ready = micros_of(watermark) - round(config.grace_minutes * 60e6)
    earliest = pc.min(micros_in(state.predictions["prediction_time"])).as_py()
    if earliest is None:
        return []
    after = earliest if state.judged_until is None else state.judged_until
    ends = range((after // grid + 1) * grid, ready + 1, grid)
    windows = [Window(moment(end) - timedelta(config.window_days), moment(end)) for end in ends]
    return [window for window in windows if champion(state, window) is not None]


def champion(state: FoldState, window: Window) -> str | None:
    """Name the version that answered as champion at the end of a window; None when nobody did.

    Taken from the log, not from the roles now: what was served is what is judged, also in a replay.
    """
    rows = _answered(state, window)
    rows = rows.filter(pc.is_in(rows["arm"], pa.array(CHAMPION_ARMS, rows["arm"].type)))
    if not rows.num_rows:
        return None
    latest = rows.filter(pc.equal(rows["generation"], pc.max(rows["generation"])))
    return str(pc.min(latest["version"]).as_py())


def sample(state: FoldState, window: Window, version: str, contract: Contract) -> pa.Table:
    """Give kept rows that a version scored in a window, with the logged `probability`, by id."""
    rows = _inside(state.samples, window).sort_by(contract.id)
    predictions = _of_version(_answered(state, window), version)
    place = pc.index_in(rows[contract.id], value_set=whole(predictions["row_id"]))
    rows = rows.append_column("probability", predictions["probability"].take(place))
    return rows.filter(pc.is_valid(place))


def evidence(
    state: FoldState,
    window: Window,
    model: str,
    reference: Reference,
    config: MonitoringConfig,
    skewed_share: float = 0.0,
) -> Evidence:
    """Put together what is known about the reference's version over a window.

    Performance is of the rows that this version answered and that had time to mature, as configured
    or as learned from the delays of all rows; the columns are those of all rows of the window,
    whoever answered them. The state must keep the version's daily profiles.
    """
    served = _of_version(_answered(state, window), reference.version)
    maturity = learn(state.predictions, state.labels, window.end, config).maturity
    mature = _inside(served, replace(window, end=window.end - timedelta(maturity.days)))
    outcomes = outcomes_of(mature, state.labels, window.end, received_by=window.end)
    live = state.profiles[reference.version].total(_days(window))
    scores = served["probability"].to_numpy()
    live_scores = reference.profile.empty_like().add_scores(scores).scores
    return Evidence(
        model=model,
        version=reference.version,
        start=window.start,
        end=window.end,
        known_at=window.end,
        num_predictions=served.num_rows,
        num_known=outcomes.num_known,
        num_void=outcomes.num_void,
        coverage=share(outcomes.num_closed, mature.num_rows),
        maturity=maturity,
        performance=realised(outcomes.labels, outcomes.probabilities, config),
        reference=reference.evaluation,
        columns=_columns(reference.profile, live),
        prediction_psi=stability_index(reference.profile.scores.counts, live_scores.counts),
        mean_probability=float(np.sum(np.sort(scores)) / max(len(scores), 1)),
        num_new_labels=_num_new_labels(state, window, reference.trained_until),
        num_quarantined=_num_quarantined(state, window),
        skewed_share=skewed_share,
    )


def judged(state: FoldState, window: Window, config: MonitoringConfig) -> FoldState:
    """Note that a window was judged, and forget what no later one can see."""
    keep = timedelta(config.window_days + MARGIN_DAYS - config.every_days)
    return forget(state, micros_of(window.end), micros_of(window.end - keep))


def _columns(reference: Profile, live: Profile) -> tuple[ColumnDrift, ...]:
    return tuple(
        ColumnDrift(
            column=name,
            psi=stability_index(_seen(there), _seen(live.columns[name])),
            null_share=live.columns[name].null_share,
            reference_null_share=there.null_share,
            unseen_share=live.columns[name].unseen_share,
        )
        for name, there in reference.columns.items()
    )


def _seen(histogram: Histogram) -> np.ndarray:
    """Give the counts of values with a bin of their own: neither nulls nor unseen ones."""
    apart = {histogram.bins.null_index}
    if isinstance(histogram.bins, CategoryBins):
        apart.add(_UNSEEN)
    return np.delete(histogram.counts, sorted(apart))


def _num_new_labels(state: FoldState, window: Window, trained_until: datetime) -> int:
    """Count labelled rows predicted after a training ended, forgotten ones by whole days."""
    since = micros_of(trained_until)
    times = micros_in(state.predictions["prediction_time"])
    new = pc.and_(pc.greater_equal(times, since), pc.less(times, micros_of(window.end)))
    live = known_by_day(state.predictions.filter(new), state.labels, micros_of(window.end))
    settled = sum(n for day, n in state.settled.items() if day * MICROS_PER_DAY >= since)
    return sum(live.values()) + settled


def _num_quarantined(state: FoldState, window: Window) -> int:
    return sum(state.quarantined.get(day, 0) for day in _days(window))


def _days(window: Window) -> range:
    return range(micros_of(window.start) // MICROS_PER_DAY, micros_of(window.end) // MICROS_PER_DAY)


def _answered(state: FoldState, window: Window) -> pa.Table:
    """Give the predictions of a window that were made by its end."""
    rows = _inside(state.predictions, window)
    return rows.filter(pc.less_equal(micros_in(rows["served_at"]), micros_of(window.end)))


def _inside(rows: pa.Table, window: Window) -> pa.Table:
    times = micros_in(rows["prediction_time"])
    after = pc.greater_equal(times, micros_of(window.start))
    return rows.filter(pc.and_(after, pc.less(times, micros_of(window.end))))


def _of_version(rows: pa.Table, version: str) -> pa.Table:
    return rows.filter(pc.equal(rows["version"], version))
