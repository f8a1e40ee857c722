"""A run made again from its folder, with this process as the worker."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from app.config import Config
from app.data.reductions import check_snapshot
from app.data.snapshots import SnapshotAltered
from app.training.again import REPETITION, find_original, repeat
from app.training.plans import (
    RunPlan,
    RunUnknown,
    begin_plan,
    find_plan,
    find_result,
    fresh_run,
    recorded_config,
    run_folder,
)
from app.training.repeating import Repetition
from tests.learning_world import END, make_config
from tests.repeat_world import circumstances, make_run, train_here


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one finished run, made once: tests change copies."""
    folder = tmp_path_factory.mktemp("finished")
    make_run(folder)
    return folder


@pytest.fixture
def config(finished: Path, tmp_path: Path) -> Config:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return make_config(tmp_path)


def test_a_run_made_again_is_bit_equal_whatever_todays_settings(config: Config) -> None:
    today = make_config(config.workspace, seed=8, epochs=1)
    original = find_original(today, "first")
    assert {each.name for each in original.since} == {"training.seed", "training.epochs"}
    found = repeat(original, "again", END, train_here)
    assert (found.verdict, found.as_expected, found.bundle_equal) == ("bit-equal", True, True)
    assert [each for each in found.differences if each.effect != "none"] == []
    written = run_folder(today, "again") / REPETITION
    assert Repetition.model_validate_json(written.read_bytes()) == found


def test_a_setting_changed_on_purpose_is_named_and_allowed_for(config: Config) -> None:
    original = find_original(config, "first", ["training.seed=8"])
    found = repeat(original, "again", END, train_here)
    assert (found.verdict == "bit-equal", found.expected) == (False, "anything")
    assert "training.seed (7, now 8)" in found.reasons[-1]
    assert found.parted_at == "search 1"


def test_code_that_a_run_was_gone_on_with_is_named(config: Config) -> None:
    original = find_original(config, "first")
    edited = circumstances().code
    plan = original.plan.model_copy(update={"resumed_with": (edited,)})
    found = repeat(dataclasses.replace(original, plan=plan), "again", END, train_here)
    named = {each.name: each.first for each in found.differences}
    assert named["code that first was gone on with"] == "c0de"


def test_rows_that_were_altered_are_refused_and_reduced_ones_compared_by_tolerance(
    config: Config,
) -> None:
    original = find_original(config, "first")
    plan = run_folder(config, "first") / "plan.json"
    plan.write_text(plan.read_text().replace(original.plan.dataset.digest, "0" * 32))
    with pytest.raises(SnapshotAltered, match="cannot be made again"):
        find_original(config, "first")
    check = check_snapshot("aa", "aa", ()).model_copy(
        update={"state": "reduced", "reason": "rows were erased by erasure-1"}
    )
    found = repeat(dataclasses.replace(original, check=check), "again", END, train_here)
    assert found.expected == "within tolerance"
    assert {each.name: each.second for each in found.differences}["snapshot"] == check.reason


def test_a_run_that_cannot_be_made_again_says_why(config: Config) -> None:
    with pytest.raises(RunUnknown, match="holds no plan"):
        find_original(config, "other")
    plan = find_plan(config, "first")
    assert plan is not None
    begin_plan(config, "begun", plan)
    with pytest.raises(RunUnknown, match="not finished; --run begun"):
        find_original(config, "begun")
    with pytest.raises(RunUnknown, match="holds no configuration"):
        recorded_config(plan.model_copy(update={"configuration": None}), "first")
    other = {**(plan.configuration or {}), "colour": "blue"}
    with pytest.raises(RunUnknown, match="not one of this version: colour"):
        recorded_config(plan.model_copy(update={"configuration": other}), "first")


def test_a_fresh_name_is_never_somebody_elses(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    names = [fresh_run(config, "orders-20200131T000000") for _ in range(3)]
    assert names == [f"orders-20200131T000000{end}" for end in ("", "-2", "-3")]
    assert all(run_folder(config, name).is_dir() for name in names)


def test_a_name_with_checkpoints_and_no_plan_is_not_gone_on_with(config: Config) -> None:
    plan = find_plan(config, "first")
    assert plan is not None
    lost = run_folder(config, "lost")
    (lost / "checkpoint_000001").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds checkpoints and no plan\.json"):
        begin_plan(config, "lost", plan)
    assert not (lost / "plan.json").exists()


def test_a_name_goes_on_with_its_own_rows_and_settings_only(config: Config) -> None:
    plan = find_plan(config, "first")
    assert plan is not None
    assert begin_plan(config, "first", plan) == plan
    rows = plan.dataset.model_copy(update={"digest": "0" * 32})
    with pytest.raises(ValueError, match="was started on rows"):
        begin_plan(config, "first", plan.model_copy(update={"dataset": rows}))
    with pytest.raises(ValueError, match="begun with other settings"):
        begin_plan(make_config(config.workspace, seed=9), "first", plan)


def test_other_code_that_goes_on_with_a_run_is_written_down(config: Config) -> None:
    plan = find_plan(config, "first")
    assert plan is not None
    edited = plan.model_copy(update={"circumstances": circumstances()})
    gone_on = begin_plan(config, "first", edited)
    assert [code.version for code in gone_on.resumed_with] == ["c0de"]
    assert begin_plan(config, "first", edited) == gone_on == find_plan(config, "first")


def test_a_plan_of_before_is_still_read(config: Config) -> None:
    result = find_result(config, "first")
    assert result is not None
    old = RunPlan(dataset=result.version.dataset, created_at=END)
    bare = old.model_dump_json(include={"dataset", "created_at"})
    assert RunPlan.model_validate_json(bare) == old
