"""What a target may be, what can be made of it, and which parts work with it."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from app.contracts.rows import Contract
from app.contracts.targets import refuse_other_target, require_binary
from app.contracts.windows import Window
from tests.unit.contracts.test_task import contract

MULTICLASS = {"task": "multiclass", "classes": ("early", "on_time", "late")}
RANKING = {"task": "ranking", "group": "basket"}


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ({}, pa.int8()),
        (MULTICLASS, pa.int16()),
        ({"task": "regression"}, pa.float64()),
        (RANKING, pa.float64()),
    ],
)
def test_a_label_has_the_type_that_its_task_asks_for(target, kind):
    assert contract(**target).label_type == kind


def test_bounds_are_absent_from_the_json_unless_they_are_asked_for():
    assert "label_minimum" not in contract(task="regression").model_dump(mode="json")
    bounded = contract(task="regression", label_minimum=0, label_maximum=9.5)
    assert Contract.model_validate_json(bounded.model_dump_json()) == bounded


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"label_minimum": 0}, "bound a number, got task binary"),
        ({**MULTICLASS, "label_maximum": 2}, "got task multiclass"),
        ({"task": "regression", "label_minimum": 3, "label_maximum": 3}, "must be under"),
        ({"task": "regression", "label_minimum": float("nan")}, "finite"),
        ({**RANKING, "label_minimum": -1}, "at least 0, got -1"),
        ({"task": "multiclass", "classes": ("a", " b")}, "spaces around it"),
        ({"task": "multiclass", "classes": tuple(map(str, range(1001)))}, "at most 1,000"),
    ],
)
def test_a_target_that_no_label_could_meet_is_refused(target, said):
    with pytest.raises(ValidationError, match=said):
        contract(**target)


@pytest.mark.parametrize(
    ("target", "aggregate", "advice"),
    [
        (MULTICLASS, "share", "take count"),
        (MULTICLASS, "mean", "take count"),
        (MULTICLASS, "sum", "take count"),
        ({"task": "regression"}, "share", "take mean or sum"),
        (RANKING, "share", "take mean or sum"),
    ],
)
def test_a_window_that_means_nothing_of_such_labels_is_refused(target, aggregate, advice):
    window = Window(name="past", aggregate=aggregate, of="late", entity="basket", hours=5)
    with pytest.raises(ValidationError, match=f"past: {aggregate} of the label.*{advice}"):
        contract(**target, windows=(window,))


@pytest.mark.parametrize(
    ("target", "aggregate"),
    [(MULTICLASS, "count"), ({"task": "regression"}, "mean"), ({}, "share")],
)
def test_a_window_that_means_something_is_taken(target, aggregate):
    window = Window(name="past", aggregate=aggregate, of="late", entity="basket", hours=5)
    (declared,) = contract(**target, windows=(window,)).windows
    assert (declared.aggregate, declared.of_label) == (aggregate, True)


def test_a_part_for_binary_models_says_what_works_for_another():
    require_binary(contract(), "serving")
    said = "serving works for binary models only, got regression; .*jobs.train and jobs.score"
    with pytest.raises(ValueError, match=said):
        require_binary(contract(task="regression"), "serving")


def test_a_version_that_predicts_something_else_is_refused():
    mine = contract(**MULTICLASS)
    refuse_other_target(mine, contract(**MULTICLASS))
    with pytest.raises(ValueError, match="task: the version was trained for multiclass"):
        refuse_other_target(mine, contract())
    turned = contract(task="multiclass", classes=("late", "on_time", "early"))
    with pytest.raises(ValueError, match="early, on_time, late, the configuration says late"):
        refuse_other_target(mine, turned)
