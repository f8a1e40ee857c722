import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.config import Config
from app.security.privacy import Pseudonymiser

HMAC_OF_N14228 = "5bd33fa6e53c3335e89b706f88ca58041e11f4b26a67847e5d3ca9d4a8036c5c"


@pytest.fixture
def pseudonymiser() -> Pseudonymiser:
    return Pseudonymiser(SecretBytes(b"k" * 32))


def test_equal_values_share_a_pseudonym_and_a_null_stays_null(pseudonymiser: Pseudonymiser) -> None:
    first, second, null, again = pseudonymiser.apply(
        pa.array(["N14228", "N24211", None, "N14228"])
    ).to_pylist()
    assert first == again != second
    assert null is None
    assert first.startswith("p_")
    assert len(first) == 18


def test_the_pseudonym_is_hmac_sha256(pseudonymiser: Pseudonymiser) -> None:
    # printf N14228 | openssl dgst -sha256 -hmac kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk
    assert pseudonymiser.one("N14228") == "p_" + HMAC_OF_N14228[:16]


def test_applying_it_twice_is_applying_it_once(pseudonymiser: Pseudonymiser) -> None:
    once = pseudonymiser.apply(pa.chunked_array([["a", "b"], ["a", None]]))
    assert pseudonymiser.apply(once).equals(once)


def test_another_key_gives_other_pseudonyms(pseudonymiser: Pseudonymiser) -> None:
    assert Pseudonymiser(SecretBytes(b"l" * 32)).one("N14228") != pseudonymiser.one("N14228")


def test_protect_replaces_personal_columns_and_nothing_else(
    flights: Config, pseudonymiser: Pseudonymiser
) -> None:
    table = pa.table({"tail": ["N1", None], "carrier": ["UA", "AA"]})
    protected = pseudonymiser.protect(table, flights.contract)
    assert protected["carrier"].equals(table["carrier"])
    assert protected["tail"].to_pylist() == [pseudonymiser.one("N1"), None]


def test_the_key_shows_in_no_representation(pseudonymiser: Pseudonymiser) -> None:
    assert "kkkk" not in f"{pseudonymiser!r} {vars(pseudonymiser)}"
