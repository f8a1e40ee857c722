"""Files as they come: whole, unfinished, late, rewritten, bad; looked at again and again."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.data.files import Layout, divide_file, find_files
from app.data.looks import Looks
from app.data.pieces import Piece, SourceError
from app.data.storage import find, unfinished

Look = Callable[[float], list[str]]
NOW = 1_000_000.0


def divide(path: str, digest: str) -> list[Piece]:
    return divide_file(path, "csv", digest, Layout(["id"]))


def put(folder: Path, name: str, content: str, at: float = NOW) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    os.utime(file, (at, at))
    return file


@pytest.fixture
def looks() -> Looks:
    return Looks(following=True, settle_seconds=5)


@pytest.fixture
def look(tmp_path: Path, looks: Looks) -> Look:
    """A function that looks at the folder at a time, and gives the names of what is taken."""

    def make(now: float) -> list[str]:
        looks.begin(now)
        found = find(str(tmp_path), (".csv",))
        taken = [looks.open(file, divide) for file in found]
        return [Path(delivery.name).name for delivery in taken if delivery is not None]

    return make


def test_a_file_is_taken_once_it_has_settled(tmp_path: Path, look: Look, looks: Looks) -> None:
    put(tmp_path, "a.csv", "id\n1\n", NOW)
    assert look(NOW + 1) == []
    assert [Path(name).name for name in looks.waiting] == ["a.csv"]
    assert look(NOW + 6) == ["a.csv"]
    assert looks.waiting == []


def test_a_file_that_grows_is_left_until_it_stops(tmp_path: Path, look: Look) -> None:
    put(tmp_path, "a.csv", "id\n1\n", NOW)
    assert look(NOW + 3) == []
    put(tmp_path, "a.csv", "id\n1\n2\n", NOW + 4)
    assert look(NOW + 6) == []
    assert look(NOW + 10) == ["a.csv"]


def test_a_store_with_a_clock_ahead_is_believed_when_nothing_changes(
    tmp_path: Path, look: Look
) -> None:
    put(tmp_path, "a.csv", "id\n1\n", NOW + 1e6)
    assert look(NOW) == []
    assert look(NOW + 4) == []
    assert look(NOW + 6) == ["a.csv"]


def test_a_late_file_is_taken_whatever_its_name_and_time(tmp_path: Path, look: Look) -> None:
    put(tmp_path, "day=2/a.csv", "id\n1\n", NOW)
    assert look(NOW + 10) == ["a.csv"]
    put(tmp_path, "day=1/late.csv", "id\n2\n", NOW - 1e6)
    assert look(NOW + 20) == ["late.csv", "a.csv"]


def test_a_bad_file_is_told_once_it_is_settled_and_left_until_it_changes(
    tmp_path: Path, look: Look, looks: Looks
) -> None:
    put(tmp_path, "a.csv", "id\n1\n")
    put(tmp_path, "b.csv", "")
    put(tmp_path, "c.csv", "number\n1\n")
    assert look(NOW + 10) == ["a.csv"]
    assert [Path(each.name).name for each in looks.refused] == ["b.csv", "c.csv"]
    assert look(NOW + 20) == ["a.csv"]
    assert looks.refused == []
    put(tmp_path, "c.csv", "id\n1\n2\n", NOW + 21)
    assert look(NOW + 30) == ["a.csv", "c.csv"]


def test_a_file_that_looks_the_same_is_not_read_again(
    tmp_path: Path, look: Look, looks: Looks
) -> None:
    file = put(tmp_path, "a.csv", "id\n1\n")
    (found,) = find(str(tmp_path), (".csv",))
    look(NOW + 10)
    opened = looks.open(found, divide)
    file.unlink()
    assert looks.open(found, divide) is opened


def test_a_rewritten_file_is_another_delivery_of_the_same_place(
    tmp_path: Path, looks: Looks
) -> None:
    looks.begin(NOW + 10)
    put(tmp_path, "a.csv", "id\n1\n")
    first = looks.open(find(str(tmp_path), (".csv",))[0], divide)
    put(tmp_path, "a.csv", "id\n2\n", NOW + 1)
    second = looks.open(find(str(tmp_path), (".csv",))[0], divide)
    assert first is not None
    assert second is not None
    assert first.digest != second.digest
    assert first.place == second.place


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, looks: Looks) -> None:
    looks.begin(NOW + 10)
    put(tmp_path, "a.csv", "id\n1\n")
    delivery = looks.open(find(str(tmp_path), (".csv",))[0], divide)
    assert delivery is not None
    delivery.refuse_changed()
    put(tmp_path, "a.csv", "id\n2\n", NOW + 1)
    with pytest.raises(SourceError, match="changed while it was read; run again"):
        delivery.refuse_changed()


def test_a_single_ingest_takes_files_as_they_are_and_refuses_bad_ones(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "id\n1\n")
    once = Looks()
    assert [once.open(file, divide) is not None for file in find(str(tmp_path), (".csv",))]
    put(tmp_path, "b.csv", "")
    with pytest.raises(SourceError, match="the file is empty"):
        [once.open(file, divide) for file in find(str(tmp_path), (".csv",))]


@pytest.mark.parametrize(
    "name",
    [".a.csv", "_a.csv", "a.csv.tmp", "a.csv.part", "_temporary/a.csv", ".x/a.csv", "a.CSV.TMP"],
)
def test_hidden_and_unfinished_names_are_passed_over(tmp_path: Path, name: str) -> None:
    assert unfinished(name)
    put(tmp_path, name, "id\n1\n")
    put(tmp_path, "whole.csv", "id\n1\n")
    for given in (tmp_path, tmp_path / "**" / "*"):
        found = [Path(file.path).name for file in find_files(str(given), "csv")]
        assert found == ["whole.csv"]


def test_a_file_uri_is_a_path_like_any_other(tmp_path: Path) -> None:
    put(tmp_path, "a b%20c.csv", "id\n1\n")
    (by_uri,) = find_files(f"file://{tmp_path}", "csv")
    (by_path,) = find_files(str(tmp_path), "csv")
    assert divide(by_uri.path, "d")[0].digest == "d"
    assert by_uri.size == by_path.size


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(SourceError, match="holds credentials") as caught:
        find_files("s3://someone:hush@bucket/rows", "csv")
    assert "hush" not in str(caught.value)
