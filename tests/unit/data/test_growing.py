"""Tables that grow, at their source: what is new since a position, and what only looks new."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.dialects import postgresql

from app.data.databases import LABEL_ORDER, Asked, open_database
from app.data.deliveries import Delivery, Position, nowhere
from app.data.files import Layout
from app.data.growing import new_files
from app.data.pieces import Rows, SourceError
from app.data.reading import rows_of_piece
from app.data.sql_pieces import SqlPiece, read_sql, statement_of
from app.sections import SourceConfig

NAMES = ("id", "day", "weight")


def rows(*ids: str) -> pa.Table:
    return pa.table({"id": ids, "day": ["mon"] * len(ids), "weight": [1.5] * len(ids)})


def at(first: int | None, done: int | None, begun: int | None = None) -> Position:
    return Position(first, done, begun)


def ids_of(deliveries: list[Delivery]) -> list[list[str]]:
    return [
        [value for part in read(delivery) for value in part.table["id"].to_pylist()]
        for delivery in deliveries
    ]


def read(delivery: Delivery) -> Iterator[Rows]:
    for piece in delivery.pieces:
        yield from rows_of_piece(piece)


def new_in(table: str, position: Position, version: int | None = None) -> list[list[str]]:
    deliveries, (_, reached) = new_files(table, version, Layout(NAMES), lambda _key: position)
    assert reached == DeltaTable(table, version=version).version()
    return sorted(ids_of(deliveries))


@pytest.fixture
def grown(tmp_path: Path) -> str:
    """A table of three versions, each with a file of its own; partitioned by day."""
    path = str(tmp_path / "table")
    for ids in (("a", "b"), ("c",), ("d",)):
        write_deltalake(path, rows(*ids), mode="append", partition_by=["day"])
    return path


def test_a_table_is_read_at_any_version(grown: str) -> None:
    assert new_in(grown, at(None, None)) == [["a", "b"], ["c"], ["d"]]
    assert new_in(grown, at(None, None), version=1) == [["a", "b"], ["c"]]


def test_after_a_position_only_new_files_are_read(grown: str) -> None:
    assert new_in(grown, at(0, 1)) == [["d"]]
    assert new_in(grown, at(0, 2)) == []


def test_a_partition_is_a_column_and_a_later_column_is_null_in_older_files(grown: str) -> None:
    deliveries, _ = new_files(grown, None, Layout(NAMES), nowhere)
    (part,) = read(deliveries[0])
    assert part.table["day"].to_pylist() == ["mon"] * part.table.num_rows
    write_deltalake(
        grown, rows("e").append_column("note", pa.array(["n"])), mode="append", schema_mode="merge"
    )
    deliveries, _ = new_files(grown, None, Layout((*NAMES, "note")), nowhere)
    notes = [part.table["note"].to_pylist() for each in deliveries for part in read(each)]
    assert sorted(notes, key=str) == [["n"], [None, None], [None], [None]]


def test_compaction_brings_nothing_new(grown: str) -> None:
    before = {each.digest for each in new_files(grown, None, Layout(NAMES), nowhere)[0]}
    DeltaTable(grown).optimize.compact()
    assert new_in(grown, at(2, 2)) == []
    # An ingest that was cut off in the middle finds the files that it began with.
    again, _ = new_files(grown, None, Layout(NAMES), lambda _key: at(2, None))
    assert {each.digest for each in again} == before


def test_a_version_that_does_not_exist_is_a_source_error(grown: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="version 9 of the Delta table cannot be read"):
        new_files(grown, 9, Layout(NAMES), nowhere)
    with pytest.raises(SourceError, match="no such Delta table"):
        new_files(str(tmp_path / "none"), None, Layout(NAMES), nowhere)


def test_a_log_that_was_cleaned_up_is_a_source_error(grown: str) -> None:
    DeltaTable(grown).create_checkpoint()
    for version in (0, 1):
        (Path(grown) / "_delta_log" / f"{version:020d}.json").unlink()
    with pytest.raises(SourceError, match="version 1 is no longer in the table's log"):
        new_files(grown, None, Layout(NAMES), lambda _key: at(0, 0))


def test_a_table_with_deletion_vectors_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    configuration = {"delta.enableDeletionVectors": "true"}
    DeltaTable.create(path, rows("a").schema, configuration=configuration)
    with pytest.raises(SourceError, match="the table uses deletionVectors"):
        new_files(path, None, Layout(NAMES), nowhere)


@pytest.fixture
def shop(tmp_path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE parcels (n INTEGER, id TEXT, day TEXT, weight)"))
    add(engine, *range(1, 6))
    return engine


def add(engine: Engine, *numbers: int, weight: object = 1.5) -> None:
    with engine.begin() as connection:
        for n in numbers:
            values = {"n": n, "id": f"P{n}", "w": weight}
            connection.execute(text("INSERT INTO parcels VALUES (:n, :id, 'mon', :w)"), values)


def asked(
    engine: Engine, position: Position, lag: float = 0, **changes: str | None
) -> list[Delivery]:
    source = SourceConfig(
        kind="sql", events="parcels", url=str(engine.url), cursor="n", cursor_lag=lag
    )
    what = Asked("parcels", None, "n", ("id",))._replace(**changes)  # type: ignore[arg-type]
    found = open_database(source, what, Layout(NAMES), lambda _key: position)
    return list(found)


def test_rows_above_the_position_are_new(shop: Engine) -> None:
    assert ids_of(asked(shop, at(None, None))) == [["P1", "P2", "P3", "P4", "P5"]]
    (delivery,) = asked(shop, at(None, 3))
    assert ids_of([delivery]) == [["P4", "P5"]]
    assert [number for _, number in delivery.marks] == [5]
    assert asked(shop, at(None, 5)) == []


def test_a_range_that_was_begun_is_taken_up_as_it_was(shop: Engine) -> None:
    first = asked(shop, at(None, 2))
    add(shop, 6, 7)
    again = asked(shop, at(None, 2, begun=5))
    assert ids_of(again) == [["P3", "P4", "P5"], ["P6", "P7"]]
    assert again[0].digest == first[0].digest


def test_rows_close_under_the_highest_are_left_for_later(shop: Engine) -> None:
    assert ids_of(asked(shop, at(None, None), lag=2)) == [["P1", "P2", "P3"]]


def test_a_query_stands_for_a_table(shop: Engine) -> None:
    query = "SELECT n, id, day, weight FROM parcels WHERE n % 2 = 1;"
    assert ids_of(asked(shop, at(None, 1), query=query)) == [["P3", "P5"]]


def test_without_a_cursor_all_rows_are_one_delivery_named_by_what_they_say(shop: Engine) -> None:
    (first,) = asked(shop, nowhere(""), cursor=None)
    (same,) = asked(shop, nowhere(""), cursor=None)
    assert same.digest == first.digest
    add(shop, 9)
    (other,) = asked(shop, nowhere(""), cursor=None)
    assert other.digest != first.digest
    # What was opened before is not read as something else.
    with pytest.raises(SourceError, match="its rows changed while they were read"):
        ids_of([first])


def test_cells_of_several_types_are_read_as_text(shop: Engine) -> None:
    add(shop, 6, weight="heavy")
    add(shop, 7, weight=2**62)
    (delivery,) = asked(shop, at(None, 4))
    (part,) = read(delivery)
    assert part.table["weight"].to_pylist() == ["1.5", "heavy", str(2**62)]


def test_a_missing_column_and_an_unsuitable_cursor_are_source_errors(shop: Engine) -> None:
    with pytest.raises(SourceError, match="parcels: no column"):
        asked(shop, nowhere(""), cursor="serial")
    with pytest.raises(SourceError, match=r"source\.cursor day must be a column of whole numbers"):
        asked(shop, nowhere(""), cursor="day")
    with pytest.raises(SourceError, match=r"absent: the database cannot be read \(no such table"):
        asked(shop, nowhere(""), table="absent")


def test_a_password_is_in_no_message_and_no_repr() -> None:
    piece = SqlPiece("parcels", SecretStr("postgresql+psycopg://u:hush@h/d"), NAMES, ("id",))
    assert "hush" not in repr(piece)
    with pytest.raises(SourceError) as caught:
        list(read_sql(piece))
    assert "hush" not in str(caught.value)


def test_the_same_statement_serves_postgresql() -> None:
    piece = SqlPiece(
        "sales.parcels",
        SecretStr(""),
        NAMES,
        ("n", "id"),
        cursor="n",
        after=3,
        until=9,
        clock="number",
    )
    compiled = statement_of(piece).compile(
        dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
    )
    assert " ".join(str(compiled).split()) == (
        "SELECT id, day, weight FROM sales.parcels WHERE n <= 9 AND n > 3 ORDER BY n, id"
    )


def test_a_cursor_of_times_is_bound_as_the_database_has_it() -> None:
    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    micros = (noon - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    for clock, bound in (("zoned", noon), ("naive", noon.replace(tzinfo=None))):
        piece = SqlPiece("t", SecretStr(""), NAMES, ("n",), cursor="n", until=micros, clock=clock)
        (value,) = statement_of(piece).compile().params.values()
        assert value == bound


def test_outcomes_are_ordered_without_a_cursor() -> None:
    assert LABEL_ORDER == ("row_id", "known_at")


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hush@h/d", "postgresql://h/d?password=hush", "mysql://h/d?x=1&passwd=hush"],
)
def test_a_url_with_a_password_is_refused_in_a_configuration(url: str) -> None:
    with pytest.raises(ValueError, match="holds a password") as caught:
        SourceConfig(kind="sql", events="t", url=url)
    assert "environment variable" in str(caught.value)
