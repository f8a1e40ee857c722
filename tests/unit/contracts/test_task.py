import pytest
from pydantic import ValidationError

from app.contracts.rows import Column, Contract

COLUMNS = (
    Column(name="order", kind="identifier", feature=False),
    Column(name="basket", kind="identifier", feature=False),
    Column(name="due", kind="time", feature=False),
    Column(name="weight", kind="number"),
)


def contract(**target: object) -> Contract:
    roles = {"id": "order", "event_time": "due", "label": "late", "columns": COLUMNS}
    return Contract.model_validate({**roles, **target})


def test_a_binary_contract_keeps_the_json_that_it_had_before_there_were_other_tasks():
    written = contract().model_dump(mode="json")
    assert not {"task", "classes", "group"} & set(written)


@pytest.mark.parametrize(
    "target",
    [
        {"task": "multiclass", "classes": ("early", "on_time", "late")},
        {"task": "regression"},
        {"task": "ranking", "group": "basket"},
    ],
)
def test_a_task_survives_the_way_through_json(target):
    made = contract(**target)
    assert Contract.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"task": "multiclass"}, "multiclass with 0 classes"),
        ({"classes": ("a", "b")}, "binary with 2 classes"),
        ({"task": "multiclass", "classes": ("a", "b", "a")}, "more than once"),
        ({"task": "multiclass", "classes": ("a",)}, "nothing to predict"),
        ({"task": "ranking"}, "got ranking"),
        ({"task": "regression", "group": "basket"}, "got regression"),
        ({"task": "ranking", "group": "session"}, "no column is named session"),
        ({"task": "clustering"}, "clustering"),
    ],
)
def test_a_target_that_cannot_be_is_refused_saying_what_to_change(target, said):
    with pytest.raises(ValidationError, match=said):
        contract(**target)
