import numpy as np
import pyarrow as pa
from pydantic import SecretBytes

from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones

KEY = SecretBytes(b"k" * 32)
NOBODY = Tombstones(KEY)


def of(*subjects: str, rows: tuple[str, ...] = ()) -> Tombstones:
    return NOBODY.having(("subject", NOBODY.subject(each)) for each in subjects).with_rows(rows)


def test_a_subject_is_found_by_its_value_and_by_its_pseudonym() -> None:
    erased = of("Ada")
    assert erased.is_subject("Ada")
    assert erased.is_subject(Pseudonymiser(KEY).one("Ada"))
    assert not erased.is_subject("Bob")
    assert NOBODY.subject("Ada") == NOBODY.subject(Pseudonymiser(KEY).one("Ada"))


def test_a_hash_says_nothing_without_the_key() -> None:
    other = Tombstones(SecretBytes(b"o" * 32))
    assert other.subject("Ada") != NOBODY.subject("Ada")
    assert "Ada" not in str(of("Ada").hashes)
    assert Pseudonymiser(KEY).one("Ada").removeprefix("p_") not in str(of("Ada").hashes)
    assert not other.having(of("Ada").hashes).is_subject("Ada")


def test_a_row_is_no_subject_of_the_same_name() -> None:
    erased = of("17", rows=("23",))
    assert erased.is_subject("17")
    assert erased.is_row("23")
    assert not erased.is_subject("23")
    assert not erased.is_row("17")


def test_columns_are_asked_for_each_row_and_null_names_nobody() -> None:
    erased = of("Ada", rows=("r1",))
    column = pa.chunked_array([["Ada", None], ["Bob", "Ada"]])
    assert erased.subjects_in(column).tolist() == [True, False, False, True]
    assert erased.rows_in(pa.array(["r1", None, "Ada"])).tolist() == [True, False, False]
    assert erased.subjects_in(pa.array([], pa.string())).tolist() == []
    found = erased.subjects_in(pa.array(["Ada", "Bob"]).dictionary_encode())
    assert found.dtype == np.bool_
    assert found.tolist() == [True, False]


def test_tombstones_of_nobody_find_nobody() -> None:
    assert not NOBODY
    assert not NOBODY.subjects_in(pa.array(["Ada"])).any()
    assert len(of("Ada", rows=("a", "b"))) == 3
