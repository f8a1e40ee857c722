"""What two runs do not share is named once, with both values and what it may change."""

from pathlib import Path

from app.config import Config
from app.contracts.circumstances import Code, Difference
from app.training.differing import (
    circumstance_differences,
    configuration_differences,
    differences_here,
)
from tests.learning_world import make_config
from tests.repeat_world import circumstances, moved, surroundings

SAME = circumstances(2)


def config(**training: object) -> Config:
    return make_config(Path("none"), **training)


def effects(found: list[Difference] | tuple[Difference, ...]) -> dict[str, str]:
    return {each.name: each.effect for each in found}


def test_equal_circumstances_and_settings_have_no_difference() -> None:
    assert circumstance_differences(SAME, circumstances(2)) == []
    assert configuration_differences(config(), config()) == ()


def test_a_package_is_named_once_where_all_processes_have_the_other_one() -> None:
    found = circumstance_differences(SAME, circumstances(2, packages={"torch": "2.10.0"}))
    (only,) = found
    assert (only.name, only.first, only.second) == ("torch", "2.9.0", "2.10.0")
    assert only.effect == "bits"


def test_a_worker_that_alone_differs_is_named() -> None:
    workers = (surroundings(0), surroundings(1, threads=2))
    found = circumstance_differences(SAME, SAME.model_copy(update={"workers": workers}))
    assert effects(found) == {"threads (worker 1)": "bits"}


def test_a_commit_that_leaves_the_sources_alone_changes_nothing() -> None:
    commit = circumstances(2, Code(version="c0de", revision="b2", dirty=True, changes="ff"))
    found = circumstance_differences(SAME, commit)
    assert set(effects(found).values()) == {"none"}
    other = circumstances(2, Code(version="0ther"))
    assert effects(circumstance_differences(SAME, other))["code.version"] == "model"


def test_a_worker_that_moved_and_another_number_of_workers_are_told() -> None:
    found = circumstance_differences(SAME, moved(SAME, processor="Other CPU"))
    assert effects(found) == {"workers that moved during the run": "bits"}
    assert effects(circumstance_differences(SAME, circumstances(1))) == {"workers": "model"}


def test_settings_are_named_by_key_and_columns_by_name() -> None:
    changed = config(seed=8, threads_per_worker=2, experiment="other")
    found = configuration_differences(config(), changed)
    assert effects(found) == {
        "training.seed": "model",
        "training.threads_per_worker": "bits",
        "training.experiment": "none",
    }
    column = config().contract.columns[2].model_copy(update={"minimum": 0.5})
    columns = (*config().contract.columns[:2], column, *config().contract.columns[3:])
    contract = config().contract.model_copy(update={"columns": columns})
    (found_column,) = configuration_differences(
        config(), config().model_copy(update={"contract": contract})
    )
    assert found_column.name == "contract.columns.weight.minimum"
    assert (found_column.first, found_column.second) == ("absent", "0.5")


def test_whoever_looks_later_is_not_asked_for_its_threads() -> None:
    here = circumstances(0, threads=7, processor="Other CPU")
    assert effects(differences_here(SAME, here)) == {"machine.processor": "bits"}
    installed = circumstances(0, installed="bb")
    assert effects(differences_here(SAME, installed)) == {"software.installed": "none"}
