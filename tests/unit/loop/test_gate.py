from datetime import timedelta

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from app.loop.gate import gate_days, judge
from app.loop.paired import Draws, PairedRows, auc_gain, brier_gain
from app.loop.watch import judge_watch
from app.sections import GateConfig, WatchConfig
from tests.unit.loop.world import START, version

CONFIG = GateConfig()
DRAWS = Draws(num_bootstraps=200, confidence=0.9, seed=3)


def rows(
    old_noise: float, new_noise: float, num_rows: int = 6000, num_days: int = 10, seed: int = 1
) -> PairedRows:
    """Rows whose models see the true log-odds through noise; less noise ranks better."""
    random = np.random.default_rng(seed)
    day = np.sort(random.integers(0, num_days, num_rows))
    truth = random.normal(-1, 1, num_rows) + random.normal(0, 0.3, num_days)[day]
    label = (random.random(num_rows) < 1 / (1 + np.exp(-truth))).astype(np.int8)

    def seen(noise: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(truth + random.normal(0, noise, num_rows))))

    origin = random.choice(np.array(["EWR", "JFK", "LGA"], object), num_rows)
    return PairedRows(label, seen(old_noise), seen(new_noise), day, {"origin": origin})


def test_the_paired_gains_are_those_of_the_definition():
    paired = rows(1.5, 0.3)
    expected = roc_auc_score(paired.label, paired.new) - roc_auc_score(paired.label, paired.old)
    found = auc_gain(paired, DRAWS)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low < found.value < found.high
    brier = np.mean((paired.old - paired.label) ** 2) - np.mean((paired.new - paired.label) ** 2)
    assert brier_gain(paired, DRAWS).value == pytest.approx(brier, abs=1e-12)


def test_the_gain_within_days_counts_pairs_of_one_day_only():
    paired = rows(1.5, 0.3)
    gained = pairs = 0.0
    for day in np.unique(paired.day):
        part = paired.only(paired.day == day)
        count = float((part.label == 1).sum() * (part.label == 0).sum())
        old, new = roc_auc_score(part.label, part.old), roc_auc_score(part.label, part.new)
        gained, pairs = gained + count * (new - old), pairs + count
    found = auc_gain(paired, DRAWS, within_days=True)
    assert found.value == pytest.approx(gained / pairs, abs=1e-12)
    assert found.low < found.value < found.high


def test_what_a_day_brings_to_all_its_rows_adds_no_noise_within_days():
    paired = rows(0.9, 0.8)
    moods = np.random.default_rng(5).normal(0, 0.15, 10)[paired.day]
    moody = PairedRows(paired.label, paired.old, paired.new + moods, paired.day)
    calm, mixed = auc_gain(moody, DRAWS, within_days=True), auc_gain(moody, DRAWS)
    assert calm.high - calm.low < mixed.high - mixed.low
    assert calm.value == pytest.approx(auc_gain(paired, DRAWS, within_days=True).value)


def test_ranking_better_within_days_and_worse_over_all_rows_is_refused():
    paired = rows(1.5, 0.3)
    moods = np.where(paired.day % 2 == 0, 0.4, 0.0)
    moody = PairedRows(paired.label, paired.old, paired.new * 0.6 + moods, paired.day)
    report = judge(moody, GateConfig(max_brier_loss=1, max_calibration_error=1), seed=7)
    assert report.ranking_gain.low > 0
    assert not report.passed
    assert all(reason.startswith("AUC gain over all rows -") for reason in report.reasons)


def test_a_loss_within_its_limit_is_refused_only_where_it_is_shown():
    paired = rows(1.5, 0.3)
    lenient = GateConfig(max_auc_loss=0.5, max_brier_loss=0.5, max_calibration_error=1)
    raised = PairedRows(paired.label, paired.old, 0.5 + 0.5 * paired.new, paired.day)
    shown = judge(raised, lenient, seed=7)
    assert -0.5 < shown.brier_gain.low < shown.brier_gain.high < 0
    assert [reason.split(" -")[0] for reason in shown.reasons] == ["Brier gain"]
    lucky = rows(0.8, 0.75, 2500, seed=4)
    chance = PairedRows(lucky.label, lucky.old, lucky.new * 0.97 + 0.03, lucky.day)
    report = judge(chance, lenient, seed=7)
    assert report.brier_gain.low < 0 < report.brier_gain.high
    assert not any(reason.startswith("Brier") for reason in report.reasons if not report.passed)


def test_ties_count_half():
    paired = rows(1.5, 0.3)
    rounded = PairedRows(paired.label, paired.old.round(1), paired.new.round(1), paired.day)
    expected = roc_auc_score(paired.label, rounded.new) - roc_auc_score(paired.label, rounded.old)
    assert auc_gain(rounded, DRAWS).value == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_a_resample_is_that_of_resampled_rows():
    paired = rows(1.5, 0.3, num_rows=900, num_days=4)
    generator = np.random.default_rng(DRAWS.seed)
    gains = []
    for counts in generator.multinomial(4, np.full(4, 0.25), size=DRAWS.num_bootstraps):
        chosen = np.repeat(np.arange(len(paired)), counts[paired.day])
        label = paired.label[chosen]
        gains.append(
            roc_auc_score(label, paired.new[chosen]) - roc_auc_score(label, paired.old[chosen])
        )
    found = auc_gain(paired, DRAWS)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gains, [0.05, 0.95])))


def test_a_better_candidate_passes_with_its_numbers():
    report = judge(rows(1.5, 0.3), CONFIG, seed=7)
    assert report.passed
    assert any(reason.startswith("AUC gain within days +0.") for reason in report.reasons)
    assert set(report.slices) == {"origin=EWR", "origin=JFK", "origin=LGA"}
    assert report == judge(rows(1.5, 0.3), CONFIG, seed=7)


def test_a_worse_candidate_is_refused_with_every_reason():
    report = judge(rows(0.3, 1.5), CONFIG, seed=7)
    assert not report.passed
    text = "; ".join(report.reasons)
    assert "AUC gain within days -0." in text
    assert "slice origin=EWR: AUC gain within days -0." in text
    assert "Brier gain -0." in text


def test_an_equal_candidate_is_refused():
    paired = rows(0.8, 0.8)
    same = PairedRows(paired.label, paired.old, paired.old, paired.day)
    assert not judge(same, CONFIG, seed=7).passed


def test_equal_candidates_seldom_pass_by_chance():
    passed = [judge(rows(0.8, 0.8, 2500, seed=n), CONFIG, seed=n).passed for n in range(40)]
    # One side of a 90 % interval is 5 %; few days make it somewhat more.
    assert sum(passed) <= 7


def test_one_slice_that_loses_refuses_what_wins_overall():
    paired = rows(1.5, 0.3)
    harmed = np.where(paired.slices["origin"] == "LGA", 1 - paired.new, paired.new)
    report = judge(
        PairedRows(paired.label, np.full(len(paired), 0.3) + paired.old * 1e-3, harmed,
                   paired.day, paired.slices), CONFIG, seed=7)  # fmt: skip
    assert any(reason.startswith("slice origin=LGA") for reason in report.reasons)
    assert not report.passed


@pytest.mark.parametrize(
    ("num_rows", "num_days", "words"),
    [(1500, 10, "fewer than 2,000 rows"), (6000, 4, "fewer than 5 days")],
)
def test_too_little_to_compare_is_refused_however_good_it_looks(num_rows, num_days, words):
    report = judge(rows(1.5, 0.1, num_rows, num_days), CONFIG, seed=7)
    assert not report.passed
    assert words in "; ".join(report.reasons)


@pytest.mark.parametrize("num_rows", [0, 3000])
def test_without_both_outcomes_nothing_passes(num_rows):
    ones = np.ones(num_rows)
    paired = PairedRows(ones.astype(np.int8), ones, ones, np.arange(num_rows) % 10)
    assert not judge(paired, CONFIG, seed=7).passed
    assert not judge(paired, CONFIG, seed=7, has_champion=False).passed


def test_a_first_model_needs_the_least_auc_only():
    assert judge(rows(9, 0.3), CONFIG, seed=7, has_champion=False).passed
    assert not judge(rows(9, 90), CONFIG, seed=7, has_champion=False).passed


def test_a_badly_calibrated_candidate_is_refused():
    paired = rows(1.5, 0.3)
    squeezed = PairedRows(paired.label, paired.old, paired.new / 5, paired.day)
    assert "calibration error" in "; ".join(judge(squeezed, CONFIG, seed=7).reasons)


def test_a_recalibration_is_judged_on_brier_and_must_keep_the_order():
    paired = rows(0.5, 0.5)
    wrong = paired.new**3
    better = PairedRows(paired.label, wrong, paired.new, paired.day)
    assert judge(better, CONFIG, seed=7, aim="calibration").passed
    assert not judge(better, CONFIG, seed=7).passed
    worse = PairedRows(paired.label, paired.new, wrong, paired.day)
    assert not judge(worse, CONFIG, seed=7, aim="calibration").passed


def test_gate_days_are_outside_both_trainings():
    champion = version("a", START, held_out_days=("2013-03-10", "2013-03-14"))
    candidate = version(
        "b",
        START + timedelta(days=20),
        held_out_days=("2013-03-14", "2013-03-18", "2013-04-01", "2013-04-02", "2013-04-06"),
    )
    # On the first of April the champion had seen the rows until six o'clock.
    assert gate_days(candidate, champion) == ("2013-03-14", "2013-04-02", "2013-04-06")
    assert gate_days(candidate, None) == candidate.held_out_days


@pytest.mark.parametrize(
    ("old_noise", "new_noise", "final", "verdict"),
    [(0.3, 1.5, False, "harm"), (1.5, 0.3, False, "wait"), (1.5, 0.3, True, "keep"),
     (0.8, 0.8, True, "keep")],
)  # fmt: skip
def test_the_watch_finds_harm_and_keeps_what_does_none(old_noise, new_noise, final, verdict):
    report = judge_watch(rows(old_noise, new_noise), WatchConfig(), CONFIG, seed=7, final=final)
    assert report.verdict == verdict


def test_the_watch_waits_for_enough_outcomes():
    report = judge_watch(rows(0.1, 5, 2000), WatchConfig(), CONFIG, seed=7, final=True)
    assert report.verdict == "wait"
    assert "3,000" in report.reasons[0]


def test_a_loss_whose_interval_holds_zero_is_no_harm():
    noisy = rows(1.2, 1.2, 3200, 6, seed=27)
    report = judge_watch(noisy, WatchConfig(), CONFIG, seed=7, final=True)
    assert report.auc_gain.value < -WatchConfig().auc_harm
    assert report.verdict == "keep"
