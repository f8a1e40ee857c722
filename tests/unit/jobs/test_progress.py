"""What a person sees of a run: lines in a log, a bar on a terminal."""

import io

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from app.training.progress import RunProgress
from app.training.state import Epoch
from jobs.progress import Bar, Lines

FIRST = Epoch(number=1, num_rows=1000, train_loss=0.6, stop_loss=0.5)
SECOND = Epoch(number=2, num_rows=1000, train_loss=0.5, stop_loss=0.45)
AGAIN = Epoch(number=1, num_rows=1200, train_loss=0.55)


def record(*epochs: Epoch, **rest: object) -> RunProgress:
    values: dict[str, object] = {
        "attempt": "a",
        "num_before": 0,
        "stage": "search",
        "epoch": len(epochs),
        "num_epochs": 8,
        "done_share": 1.0,
        "loss": 0.5,
        "epochs": epochs,
        "refit_epochs": (),
        "best_epoch": len(epochs),
        "best_loss": 0.45,
        "rows_per_second": 500.0,
        "rows_left": 37_500,
    }
    return RunProgress.model_validate(values | rest)


class Told:
    """Lines, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now, self.lines = 0.0, list[str]()
        self.shown = Lines(self.lines.append, lambda: self.now)


def test_every_epoch_gets_one_line_with_its_losses_and_what_is_left() -> None:
    told = Told()
    told.shown.progress(record(FIRST))
    told.shown.progress(record(FIRST))
    told.shown.progress(record(FIRST, SECOND))
    assert told.lines == [
        "search, epoch 1 of at most 8: train loss 0.6000, stop loss 0.5000, "
        "best 0.4500 (epoch 1), 500 rows/s, at most 1:15 min left",
        "search, epoch 2 of at most 8: train loss 0.5000, stop loss 0.4500, "
        "best 0.4500 (epoch 2), 500 rows/s, at most 1:15 min left",
    ]


def test_epochs_that_end_between_two_looks_are_told_each() -> None:
    told = Told()
    told.shown.progress(record(FIRST, SECOND))
    assert [line.split(":")[0] for line in told.lines] == [
        "search, epoch 1 of at most 8",
        "search, epoch 2 of at most 8",
    ]


def test_a_long_epoch_is_told_every_ten_seconds_only() -> None:
    told = Told()
    for second in range(25):
        told.now = float(second)
        told.shown.progress(record(epoch=1, done_share=second / 100, best_loss=None))
    assert told.lines == [
        "search, epoch 1 of at most 8, 10%: loss 0.5000, 500 rows/s, at most 1:15 min left",
        "search, epoch 1 of at most 8, 20%: loss 0.5000, 500 rows/s, at most 1:15 min left",
    ]


def test_workers_that_were_started_again_are_told_and_their_epochs_not_twice() -> None:
    told = Told()
    told.shown.progress(record(FIRST, SECOND))
    told.shown.progress(record(FIRST, SECOND, attempt="b", num_before=1))
    refit = {"stage": "refit", "epoch": 1, "num_epochs": 2, "refit_epochs": (AGAIN,)}
    told.shown.progress(record(FIRST, SECOND, attempt="b", num_before=1, **refit))
    assert told.lines[2] == "workers were started again, going on after 1 epochs"
    assert told.lines[3].startswith("refit, epoch 1 of 2: train loss 0.5500, best 0.4500")
    assert len(told.lines) == 4


def test_a_resumed_run_does_not_tell_the_epochs_of_before() -> None:
    told = Told()
    told.shown.progress(record(FIRST, num_before=1, epoch=2, done_share=0.1))
    told.shown.progress(record(FIRST, SECOND, num_before=1))
    assert told.lines[0] == "going on after 1 epochs"
    assert told.lines[1].startswith("search, epoch 2 of at most 8: train loss 0.5000")
    assert len(told.lines) == 2


def test_a_terminal_gets_a_bar_and_keeps_the_epochs() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with Progress(*columns, console=console) as bars:
        bar = Bar(bars)
        bar.phase("fitting the encoder")
        bars.refresh()
        bar.progress(record(FIRST, epoch=2, done_share=0.5))
        bars.refresh()
    text = screen.getvalue()
    assert "fitting the encoder" in text
    assert "search, epoch 1 of at most 8: train loss 0.6000" in text
    assert "search, epoch 2 of at most 8" in text
    assert bars.tasks[0].completed == 0.5
