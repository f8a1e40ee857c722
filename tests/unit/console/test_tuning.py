"""The page of a search shows every trial and what came out, in one file that fetches nothing."""

import re
from datetime import UTC, datetime

from app.console.trial_plots import Axis, loss_scale
from app.console.tuning import render_tuning
from app.contracts.records import DatasetVersion
from app.sections.tuning import Dimension
from app.training.state import Epoch
from app.training.study import TrialRecord
from app.training.tuning import SearchReport
from tests.unit.console.test_page import Balance

AT = datetime(2024, 4, 1, 12, tzinfo=UTC)
SPACE = {
    "training.learning_rate": Dimension(log_uniform=(1e-4, 1e-2)),
    "training.network.hidden": Dimension(choice=(8, 16)),
}
EVIL = "<script>alert('x')</script>"


def trial(number: int, losses: list[float], state: str = "complete", **more: object) -> TrialRecord:
    epochs = [
        Epoch(number=i, num_rows=9, train_loss=1, stop_loss=x) for i, x in enumerate(losses, 1)
    ]
    values = {"training.learning_rate": 10.0 ** (-4 + number / 2), "training.network.hidden": 8}
    parts = {"loss": min(losses, default=None), "epochs": tuple(epochs), **more}
    return TrialRecord.model_validate(
        {"number": number, "values": values, "state": state, "seconds": 3.0, **parts}
    )


def report(*trials: TrialRecord, **changes: object) -> SearchReport:
    dataset = DatasetVersion(
        start=AT, end=AT, known_at=AT, events_version=0, labels_version=0, digest="0" * 32,
        num_rows=10, num_known=9, num_void=0,
    )  # fmt: skip
    parts = {
        "run": "search", "model": "orders", "created_at": AT, "dataset": dataset, "space": SPACE,
        "num_wanted": 4, "seconds": 90.0, "began_with_current": True, "trials": trials,
    }  # fmt: skip
    return SearchReport.model_validate({**parts, **changes})


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = render_tuning(
        report(trial(0, [0.5, 0.4]), trial(1, [0.45, 0.35]), trial(2, [0.6], "stopped"))
    )
    balance = Balance()
    balance.feed(page)
    assert not balance.open
    assert "3 trials took the loss from 0.40000 to 0.35000" in page
    assert "1 of 4 are still to come" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "<script" not in page


def test_every_trial_is_drawn_and_the_best_and_the_stopped_stand_out() -> None:
    page = render_tuning(
        report(trial(0, [0.5, 0.4]), trial(1, [0.45, 0.35]), trial(2, [0.6], "stopped"))
    )
    assert page.count('class="trial complete"') == 1
    assert page.count('class="trial best"') == 1
    assert page.count('class="trial stopped"') == 1
    # One dot in the order of trials and one for each of two settings.
    assert page.count('class="dot stopped"') == 3
    assert page.count('class="thread best"') == 1


def test_a_reason_of_failure_is_escaped() -> None:
    page = render_tuning(report(trial(0, [0.5]), trial(1, [], "failed", reason=EVIL)))
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def test_a_search_without_any_loss_still_has_its_page() -> None:
    page = render_tuning(report(trial(0, [], "failed", reason="no rows")))
    assert "1 trial, and none has given a loss yet" in page
    assert "no rows" in page


def test_settings_that_stay_best_are_told_as_such() -> None:
    page = render_tuning(report(trial(0, [0.3]), trial(1, [0.4])))
    assert "none did better than the settings as they stand" in page


def test_a_logarithmic_axis_gives_each_power_of_ten_the_same_room() -> None:
    axis = Axis(SPACE["training.learning_rate"], 0.0, 100.0)
    assert [round(axis.at(value)) for value in (1e-4, 1e-3, 1e-2)] == [0, 50, 100]
    assert [text for _, text in axis.marks()] == ["0.0001", "0.001", "0.01"]


def test_a_trial_gone_astray_does_not_press_the_others_together() -> None:
    scale = loss_scale([0.30 + i / 1000 for i in range(19)] + [9.0], 0.0, 100.0)
    assert scale.high < 0.33
    assert scale.y(9.0) == 0.0


def test_what_lies_far_above_the_trials_that_ended_is_held_at_the_edge() -> None:
    scale = loss_scale([0.30, 0.31, 0.32, 0.40, 0.45], 0.0, 100.0, [0.30, 0.31])
    assert 0.32 < scale.high < 0.33
