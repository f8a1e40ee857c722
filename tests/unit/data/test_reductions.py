import pyarrow as pa
import pytest

from app.contracts.erasure import Reduction
from app.data.reductions import check_snapshot, subtract_digests
from app.data.snapshots import digest_rows

ROWS = pa.table({"id": [f"r{i}" for i in range(40)], "x": [float(i) for i in range(40)]})


def reduction(receipt: str, before: str, after: str, pending: bool = False) -> Reduction:
    return Reduction(
        receipt=receipt,
        snapshot="d0",
        before=before,
        after=after,
        num_rows_before=3,
        num_rows_after=2,
        pending=pending,
    )


FIRST, SECOND = reduction("e1", "d0", "d1"), reduction("e2", "d1", "d2")


@pytest.mark.parametrize(
    ("found", "reductions", "state", "receipts"),
    [
        ("d0", (), "intact", ()),
        ("d1", (), "altered", ()),
        ("d1", (FIRST,), "reduced", ("e1",)),
        ("d2", (FIRST, SECOND), "reduced", ("e1", "e2")),
        # Erased rows that are back alter a snapshot too.
        ("d0", (FIRST,), "altered", ()),
        ("d1", (FIRST, SECOND), "altered", ()),
        ("d3", (FIRST, SECOND), "altered", ()),
    ],
)
def test_a_snapshot_is_intact_reduced_by_named_receipts_or_altered(
    found: str, reductions: tuple[Reduction, ...], state: str, receipts: tuple[str, ...]
) -> None:
    check = check_snapshot("d0", found, reductions)
    assert (check.state, check.receipts) == (state, receipts)
    assert check.found == found


def test_while_an_erasure_is_under_way_both_digests_may_be() -> None:
    under_way = reduction("e2", "d1", "d2", pending=True)
    for found, receipts in (("d1", ("e1",)), ("d2", ("e1", "e2"))):
        check = check_snapshot("d0", found, (FIRST, under_way))
        assert (check.state, check.receipts) == ("reduced", receipts)
    assert check_snapshot("d0", "d0", (FIRST, under_way)).state == "altered"


def test_a_reduction_of_other_rows_explains_nothing() -> None:
    check = check_snapshot("d0", "d2", (reduction("e1", "dx", "d2"),))
    assert check.state == "altered"
    assert "from dx, expected d0" in check.reason
    other = FIRST.model_copy(update={"snapshot": "another"})
    assert check_snapshot("d0", "d0", (other,)).state == "intact"


@pytest.mark.parametrize("taken", [0, 1, 17, 40])
def test_rows_are_subtracted_from_a_digest_exactly(taken: int) -> None:
    gone, left = ROWS.slice(0, taken), ROWS.slice(taken)
    assert subtract_digests(digest_rows(ROWS), digest_rows(gone)) == digest_rows(left)
