"""A search without a cluster: what is drawn, what is kept, what ends it, what comes out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import Config
from app.sections.tuning import TuningConfig
from app.training.assembly import fit_in_process
from app.training.state import Epoch
from app.training.study import TrialRecord, Trials
from app.training.tuning import Search, Standing, best_of, best_values, judged, report_of, summary
from tests.learning_world import DATASET, END, make_config, make_rows

SPACE = {
    "training.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "training.network.hidden": {"choice": [8, 16, 32]},
}


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def searched(folder: Path, **tuning: object) -> Config:
    chosen = TuningConfig.model_validate({"space": SPACE, "num_trials": 4, **tuning})
    return make_config(folder).model_copy(update={"tuning": chosen})


def opened(config: Config, clock: Clock, **parts: Callable[..., object]) -> Search:
    return Search(config, Trials(config.workspace, config.tuning), clock, **parts)  # type: ignore


def epoch(number: int, loss: float) -> Epoch:
    return Epoch(number=number, num_rows=100, train_loss=loss, stop_loss=loss)


def run_all(search: Search, losses: list[float]) -> list[int]:
    """Let every trial run its three epochs; the losses are those of the trials in turn."""
    numbers = []
    while (drawn := search.draw()) is not None:
        number, _ = drawn
        numbers.append(number)
        for at in (1, 2, 3):
            search.heard(number, epoch(at, losses[number]), 1.0)
        search.ended(number)
    return numbers


def test_the_first_trial_has_the_settings_as_they_stand(tmp_path: Path) -> None:
    config = searched(tmp_path)
    number, made = opened(config, Clock()).draw()
    assert number == 0
    assert made.training.learning_rate == config.training.learning_rate
    assert made.training.network.hidden == config.training.network.hidden


def test_a_search_ends_with_its_trials_and_names_the_best(tmp_path: Path) -> None:
    told: list[Standing] = []
    search = opened(searched(tmp_path), Clock(), on_ended=told.append)
    assert run_all(search, [0.5, 0.4, 0.3, 0.6]) == [0, 1, 2, 3]
    records = search.trials.records()
    assert [record.state for record in records] == ["complete"] * 4
    assert [record.loss for record in records] == [0.5, 0.4, 0.3, 0.6]
    assert [standing.best.number for standing in told] == [0, 1, 2, 2]
    assert told[-1].seconds_left == 0
    assert len({record.values["training.learning_rate"] for record in records}) == 4


def test_what_a_dead_driver_left_goes_on_and_what_ended_does_not(tmp_path: Path) -> None:
    config = searched(tmp_path)
    first = opened(config, Clock())
    number, _ = first.draw()
    for at in (1, 2, 3):
        first.heard(number, epoch(at, 0.5), 1.0)
    first.ended(number)
    left, made = first.draw()
    first.heard(left, epoch(1, 0.4), 2.0)

    second = opened(config, Clock())
    again, same = second.draw()
    assert (again, same) == (left, made)
    # The trial tells again what it knows, and goes on.
    for at in (1, 2, 3):
        second.heard(left, epoch(at, 0.4 - at / 100), 1.0)
    second.ended(left)
    record = second.trials.records()[left]
    assert [each.stop_loss for each in record.epochs] == [0.4, 0.38, 0.37]
    assert record.seconds == 4.0
    assert run_all(second, [0.5] * 4) == [2, 3]


def test_more_trials_of_the_same_search_repeat_nothing(tmp_path: Path) -> None:
    few = opened(searched(tmp_path), Clock())
    run_all(few, [0.5] * 4)
    assert not few.has_work()
    more = opened(searched(tmp_path, num_trials=6), Clock())
    assert run_all(more, [0.5] * 6) == [4, 5]
    rates = {record.values["training.learning_rate"] for record in more.trials.records()}
    assert len(rates) == 6


def test_minutes_are_counted_over_all_sessions(tmp_path: Path) -> None:
    clock = Clock()
    search = opened(searched(tmp_path, max_minutes=10), clock)
    number, _ = search.draw()
    clock.now += 400
    search.heard(number, epoch(1, 0.5), 400.0)
    assert not search.is_spent()

    clock = Clock()
    search = opened(searched(tmp_path, max_minutes=10), clock)
    clock.now += 199
    assert not search.is_spent()
    clock.now += 2
    assert search.is_spent()
    assert search.draw() is None
    with_more = opened(searched(tmp_path, max_minutes=20), Clock())
    assert with_more.draw()[0] == number


def test_a_trial_under_way_when_the_budget_is_spent_stays_open(tmp_path: Path) -> None:
    clock = Clock()
    search = opened(searched(tmp_path, max_minutes=1), clock)
    number, _ = search.draw()
    search.heard(number, epoch(1, 0.5), 1.0)
    clock.now += 61
    search.ended(number)
    assert search.trials.records()[number].state == "unfinished"


def test_a_trial_that_is_ended_before_its_last_epoch_was_stopped(tmp_path: Path) -> None:
    search = opened(searched(tmp_path), Clock())
    number, _ = search.draw()
    search.heard(number, epoch(1, 0.7), 1.0)
    search.ended(number)
    record = search.trials.records()[number]
    assert (record.state, record.loss) == ("stopped", 0.7)


def test_a_trial_that_failed_keeps_its_reason_and_is_never_the_best(tmp_path: Path) -> None:
    config = searched(tmp_path)
    search = opened(config, Clock())
    number, _ = search.draw()
    search.heard(number, epoch(1, 0.1), 1.0)
    search.ended(number, "the loss is nan")
    report = report_of(config, "s", END, DATASET, search.trials)
    assert (report.trials[0].state, report.trials[0].reason) == ("failed", "the loss is nan")
    with pytest.raises(ValueError, match="none of 1 trials gave a loss: the loss is nan"):
        best_values(report)


def test_an_infinite_loss_is_no_number_in_the_report(tmp_path: Path) -> None:
    config = searched(tmp_path)
    search = opened(config, Clock())
    number, _ = search.draw()
    search.heard(number, epoch(1, 0.5), 1.0)
    search.heard(number, epoch(2, float("inf")), 1.0)
    record = search.trials.records()[number]
    assert [each.stop_loss for each in record.epochs] == [0.5, None]
    assert TrialRecord.model_validate_json(record.model_dump_json()) == record


def test_a_stopped_trial_is_best_only_where_none_came_to_its_end() -> None:
    ended = TrialRecord(number=0, values={}, state="complete", loss=0.5)
    stopped = TrialRecord(number=1, values={}, state="stopped", loss=0.4)
    assert best_of((ended, stopped)) == ended
    assert best_of((stopped,)) == stopped
    assert best_of(()) is None


def test_the_losses_of_a_fit_are_judged_as_the_fit_judged_them(tmp_path: Path) -> None:
    config = make_config(tmp_path, epochs=5, patience=2, learning_rate=0.05, min_epochs=2)
    state = fit_in_process(config, make_rows(), END).state
    seen = judged(state.epochs, config.training)
    assert (seen.best_loss, seen.best_epoch) == (state.best_loss, state.best_epoch)
    assert seen.is_searched(config.training)
    assert not judged(state.epochs[:1], config.training).is_searched(config.training)


def test_the_summary_counts_and_names(tmp_path: Path) -> None:
    config = searched(tmp_path)
    search = opened(config, Clock())
    run_all(search, [0.5, 0.4, 0.3, 0.6])
    told = summary(report_of(config, "s", END, DATASET, search.trials), {"best.yaml": "b"})
    assert (told["num_trials"], told["num_stopped_early"], told["best_trial"]) == (4, 0, 2)
    assert told["best_loss"] == 0.3
    assert set(told["best_settings"]) == set(SPACE)
