"""The search finds a planted weakness, leaves noise alone, and is not won by few rows."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from app.model.conditions import Cut, cut_category, cut_number, cut_time
from app.model.slices import Findings, find_slices, q_values

NUM_ROWS = 8000


def random_cuts(seed: int, num_columns: int = 8, num_codes: int = 6) -> list[Cut]:
    chance = np.random.default_rng(seed)
    says = tuple(f"= {code}" for code in range(num_codes))
    return [
        Cut(f"c{place}", says, chance.integers(0, num_codes, NUM_ROWS).astype(np.int32))
        for place in range(num_columns)
    ]


def search(cuts: list[Cut], errors: np.ndarray, min_rows: int = 100) -> Findings:
    return find_slices(
        cuts,
        {"loss": errors},
        min_rows=min_rows,
        most=5,
        false_discovery_share=0.05,
        confidence=0.9,
    )


def test_a_planted_pair_is_found_first_and_its_parts_are_not_taken_for_it() -> None:
    cuts = random_cuts(1)
    errors = np.random.default_rng(2).exponential(0.5, NUM_ROWS)
    bad = (cuts[2].codes == 3) & (cuts[5].codes == 1)
    errors[bad] += 0.8
    findings = search(cuts, errors)
    first = findings.found[0]
    assert first.parts == ((2, 3), (5, 1))
    assert first.num_rows == bad.sum()
    assert first.excess == pytest.approx(errors[bad].mean() - errors[~bad].mean())
    assert (first.mask(cuts) == bad).all()


def test_a_planted_column_is_found_as_one_condition() -> None:
    cuts = random_cuts(3)
    errors = np.random.default_rng(4).exponential(0.5, NUM_ROWS)
    errors[cuts[4].codes == 2] += 0.4
    findings = search(cuts, errors)
    assert findings.found[0].parts == ((4, 2),)


def test_of_noise_hardly_anything_is_reported() -> None:
    # 20 searches over some thousand true nothings each: at 5 % about one may find something.
    found = [
        search(random_cuts(10 + seed), np.random.default_rng(seed).exponential(0.5, NUM_ROWS))
        for seed in range(20)
    ]
    assert all(each.num_tested > 900 for each in found)
    assert sum(bool(each.num_significant) for each in found) <= 2


def test_slices_of_fewer_rows_than_asked_never_win() -> None:
    cuts = random_cuts(5)
    errors = np.random.default_rng(6).exponential(0.5, NUM_ROWS)
    bad = (cuts[0].codes == 0) & (cuts[1].codes == 0)
    errors[bad] += 5.0
    wanted = int(bad.sum()) + 1
    for one in search(cuts, errors, min_rows=wanted).found:
        assert one.num_rows >= wanted


def test_a_sure_excess_beats_a_larger_one_of_few_rows() -> None:
    chance = np.random.default_rng(7)
    few, many = np.zeros(NUM_ROWS, np.int32), np.zeros(NUM_ROWS, np.int32)
    few[:60], many[1000:4000] = 1, 1
    errors = chance.exponential(0.5, NUM_ROWS)
    errors[:60] += chance.normal(0.45, 1.5, 60)
    errors[1000:4000] += 0.35
    findings = search(
        [Cut("few", ("no", "yes"), few), Cut("many", ("no", "yes"), many)], errors, 50
    )
    assert findings.found[0].parts == ((1, 1),)


def test_the_same_rows_under_two_names_are_one_finding() -> None:
    cuts = random_cuts(8)
    errors = np.random.default_rng(9).exponential(0.5, NUM_ROWS)
    errors[cuts[0].codes == 1] += 0.5
    twin = Cut("twin", cuts[0].says, cuts[0].codes)
    masks = [one.mask([*cuts, twin]) for one in search([*cuts, twin], errors).found]
    for place, mask in enumerate(masks):
        for other in masks[:place]:
            assert (mask & other).sum() <= 0.5 * (mask | other).sum()


def test_predictions_too_low_and_too_high_are_told_apart() -> None:
    cuts = random_cuts(11)
    gaps = np.random.default_rng(12).normal(0, 0.4, NUM_ROWS)
    gaps[cuts[1].codes == 1] += 0.2
    gaps[cuts[2].codes == 2] -= 0.2
    findings = find_slices(
        cuts,
        {"too_low": gaps, "too_high": -gaps},
        min_rows=100,
        most=6,
        false_discovery_share=0.05,
        confidence=0.9,
    )
    assert {(one.kind, one.parts[0]) for one in findings.found if len(one.parts) == 1} >= {
        ("too_low", (1, 1)),
        ("too_high", (2, 2)),
    }


def test_what_happened_on_a_single_day_is_no_finding() -> None:
    days = np.arange(NUM_ROWS) * 10 // NUM_ROWS
    chance = np.random.default_rng(14)
    errors = chance.exponential(0.5, NUM_ROWS)
    storm = np.where((days == 4) & (chance.random(NUM_ROWS) < 0.5), 1, 0).astype(np.int32)
    errors[storm == 1] += 1.0
    cut = Cut("wind", ("calm", "strong"), storm)
    settings = {"min_rows": 100, "most": 5, "false_discovery_share": 0.05, "confidence": 0.9}
    alone = find_slices([cut], {"loss": errors}, **settings)
    assert alone.found[0].parts == ((0, 1),)
    assert find_slices([cut], {"loss": errors}, clusters=days, **settings).found == ()


def test_what_differs_from_day_to_day_is_less_sure_than_its_rows_say() -> None:
    chance = np.random.default_rng(15)
    days = np.arange(NUM_ROWS) * 8 // NUM_ROWS
    half = chance.integers(0, 2, NUM_ROWS).astype(np.int32)
    shock = chance.normal(0, 0.3, 8)[days]
    errors = chance.exponential(0.5, NUM_ROWS) + np.where(half == 1, 0.1 + shock, 0.0)
    cut = Cut("half", ("no", "yes"), half)
    settings = {"min_rows": 100, "most": 5, "false_discovery_share": 1.0, "confidence": 0.6}
    [by_row] = find_slices([cut], {"loss": errors}, **settings).found
    by_day = find_slices([cut], {"loss": errors}, clusters=days, **settings).found
    assert by_row.q_value < 1e-4
    assert not by_day or by_day[0].q_value > 100 * by_row.q_value


def test_false_discovery_shares_are_those_of_benjamini_and_yekutieli() -> None:
    z = np.random.default_rng(13).normal(1, 1.5, 200)
    expected = multipletests(norm.sf(z), method="fdr_by")[1]
    np.testing.assert_allclose(q_values(z, 200), expected, atol=1e-12)


def test_numbers_are_cut_at_quantiles_and_nulls_stand_apart() -> None:
    values = np.append(np.arange(600.0), [np.nan] * 5)
    cut = cut_number("n", values)
    assert cut.says[0] == "< 100"
    assert cut.says[-2:] == (">= 500", "is missing")
    assert np.bincount(cut.codes).tolist() == [100, 100, 100, 100, 100, 100, 5]


def test_a_constant_and_a_column_of_nulls_can_be_cut() -> None:
    assert cut_number("n", np.full(5, 2.0)).codes.tolist() == [0] * 5
    assert cut_number("n", np.full(5, np.nan)).codes.tolist() == [1] * 5


def test_categories_and_times_are_cut_by_value_hour_and_weekday() -> None:
    cut = cut_category("c", pa.chunked_array([["a", None], ["b", "a"]]))
    assert [cut.says[code] for code in cut.codes] == ["= a", "is missing", "= b", "= a"]
    times = pa.chunked_array([pa.array([1_700_000_000_000_000, None], pa.timestamp("us", "UTC"))])
    hours, days = cut_time("t", times)
    # 2023-11-14 22:13 UTC was a Tuesday.
    assert hours.says[hours.codes[0]] == "from 20:00 to 23:59 UTC"
    assert days.says[days.codes[0]] == "on Tue"
    assert (hours.codes[1], days.codes[1]) == (-1, -1)
