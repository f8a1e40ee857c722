"""The commands: whom they ask for, what they print, how they end."""

import io
import json
from pathlib import Path

import pytest
import typer
from rich.console import Console

from app.config import show_config
from app.console.snapshot import render_snapshot
from app.console.status import read_status, render_status
from app.data.snapshots import SnapshotAltered
from app.governance.contents import SnapshotUnknown, describe_snapshot, find_snapshot
from jobs import erase as job
from jobs import ingest
from tests.erasure_world import NOW, World, customer, email, make_world, tokens_of


@pytest.fixture
def world(workspace: Path) -> World:
    return make_world(workspace, num_subjects=6, rows_each=4)


@pytest.fixture
def config_file(world: World, tmp_path: Path) -> Path:
    file = tmp_path / "orders.yaml"
    file.write_text(show_config(world.config))
    return file


def last_record(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def drawn(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_subjects_come_from_the_input_and_the_record_names_nobody(
    world: World,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{customer(2)}\n\n {email(1)} \n"))
    job.main(config_file)
    printed = capsys.readouterr()
    record = json.loads(printed.out.splitlines()[-1])
    assert (record["verified"], len(record["subjects"])) == (True, 2)
    assert "forgot 2 subject(s)" in printed.err
    shown = printed.out + printed.err
    assert not [t for t in tokens_of(world, {1, 2}) if t.decode() in shown]
    job.main(config_file, verify=record["id"])
    assert last_record(capsys) == {
        "receipt": record["id"], "model": "orders", "verified": True, "problems": []
    }  # fmt: skip
    job.main(config_file, list_=True)
    (listed,) = last_record(capsys)["receipts"]  # type: ignore[misc]
    assert listed["id"] == record["id"]


def test_subjects_come_from_a_file_and_again_there_is_nothing_to_do(
    world: World, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "subjects").write_text(f"{customer(2)}\n{customer(3)}\n")
    job.main(config_file, subject_file=tmp_path / "subjects")
    first = last_record(capsys)
    job.main(config_file, subject_file=tmp_path / "subjects")
    printed = capsys.readouterr()
    again = json.loads(printed.out.splitlines()[-1])
    assert again == {**first, "repeated": True}
    assert "nothing more to do" in printed.err
    job.main(config_file, resume=True)
    assert last_record(capsys) == {"model": "orders", "resumed": False}


def test_a_subject_on_the_command_line_is_taken_with_a_warning(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job.main(config_file, subject=[customer(4)])
    printed = capsys.readouterr()
    assert "prefer the input or a file" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["counts"]["events"] == 4


def test_no_subject_is_an_error_that_says_where_to_write_one(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(typer.Exit) as ended:
        job.main(config_file)
    assert ended.value.exit_code == 2
    assert "write one a line to the input" in capsys.readouterr().err


def test_what_is_left_ends_a_check_with_an_error(
    world: World, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job.main(config_file, subject=[customer(4)])
    receipt = str(last_record(capsys)["id"])
    pseudonym = world.tombstones.pseudonym(customer(4))
    (world.config.workspace / "notes.txt").write_text(f"about {pseudonym}")
    with pytest.raises(typer.Exit) as ended:
        job.main(config_file, verify=receipt)
    assert ended.value.exit_code == 1
    assert last_record(capsys)["problems"] == ["something is left in notes.txt"]


def test_a_snapshot_is_shown_by_its_digest_or_by_a_versions(
    world: World, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, version = world.datasets[2], world.versions[2]
    assert find_snapshot(world.config, world.ledger, dataset.digest[:8]) == dataset
    assert find_snapshot(world.config, world.ledger, version) == dataset
    ingest.main(config_file, show=version)
    record = last_record(capsys)
    assert record["check"]["state"] == "intact"  # type: ignore[index]
    assert sum(month["num_rows"] for month in record["months"]) == dataset.num_rows  # type: ignore[attr-defined]
    for wrong, said in (("ff", "at least 6"), ("f" * 8, "no snapshot"), ("0" * 8, "any of")):
        with pytest.raises(SnapshotUnknown, match=said):
            find_snapshot(world.config, world.ledger, wrong)


def test_a_snapshot_shows_rows_columns_and_models_and_no_personal_value(world: World) -> None:
    contents = describe_snapshot(world.config, world.ledger, world.tables, world.datasets[-1])
    assert (contents.num_rows, contents.num_known, contents.num_pending) == (24, 24, 0)
    assert [month.month for month in contents.months] == ["2024-01", "2024-02"]
    columns = {column.name: column for column in contents.columns}
    assert columns["depot"].top == {"north": 12, "south": 12}
    assert 1 <= columns["weight"].low <= columns["weight"].high <= 90  # type: ignore[operator]
    assert (columns["customer"].num_distinct, columns["email"].num_nulls) == (6, 8)
    assert [model.digest for model in contents.models] == [world.versions[-1]]
    text = drawn(render_snapshot(contents)) + contents.model_dump_json()
    assert "p_" not in text


def test_a_reduced_snapshot_names_its_receipts_and_an_altered_one_is_told(world: World) -> None:
    receipt = world.eraser().erase([customer(2)]).receipt
    dataset = world.datasets[-1]
    contents = describe_snapshot(world.config, world.ledger, world.tables, dataset)
    assert (contents.check.state, contents.check.receipts) == ("reduced", (receipt.id,))
    assert contents.num_rows == 20
    assert contents.models[0].erased_by == (receipt.id,)
    shown = drawn(render_snapshot(contents))
    assert f"rows were erased by {receipt.id}" in shown
    altered = dataset.model_copy(update={"digest": "ab" * 16})
    contents = describe_snapshot(world.config, world.ledger, world.tables, altered)
    assert contents.check.state == "altered"
    gone = dataset.model_copy(update={"events_version": 99})
    with pytest.raises(SnapshotAltered, match="gone or damaged"):
        describe_snapshot(world.config, world.ledger, world.tables, gone)


def test_the_status_says_which_versions_had_learned_from_the_erased(world: World) -> None:
    assert "erased" not in drawn(render_status(read_status(world.config, world.ledger, NOW)))
    receipt = world.eraser().erase([customer(2)]).receipt
    status = read_status(world.config, world.ledger, NOW)
    assert status.erasures == (receipt.id,)
    assert status.marked == dict.fromkeys(world.versions, (receipt.id,))
    assert "1 erasures, 4 versions had learned from them" in drawn(render_status(status))
