import pytest

from app.monitoring.diagnosis import diagnose
from app.sections import DiagnosisConfig
from tests.unit.loop.world import drift, evaluation, evidence

CONFIG = DiagnosisConfig()
SHIFTED = (drift("temperature", 3.1), drift("pressure", 0.4), drift("distance", 0.01))
DRIFTED = {"performance": evaluation(0.65, positive=0.33, error=0.08), "columns": SHIFTED}


def cause_of(**changes: object) -> str:
    return diagnose(evidence(**changes), CONFIG).cause


def test_quiet_evidence_is_healthy_and_says_its_figures():
    found = diagnose(evidence(), CONFIG)
    assert found.cause == "healthy"
    assert "AUC 0.700 against 0.700" in found.reasons[0]


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        ({"num_quarantined": 2000}, "broken_data", "2,000 of 27,000 rows were quarantined (7.4%"),
        (
            {"columns": (drift("wind_gust", null_share=0.9, reference_null_share=0.6),)},
            "broken_data",
            "wind_gust is null in 90.0% of rows, 60.0% in training",
        ),
        ({"columns": (drift("carrier", unseen_share=0.2),)}, "unseen_categories", "carrier"),
        ({"skewed_share": 0.02}, "serving_skew", "2.0% of logged predictions"),
        ({"performance": None}, "too_few_labels", "24,000 outcomes are known"),
        ({"num_known": 2999}, "too_few_labels", "3,000 are needed"),
        ({"performance": evaluation(0.68)}, "concept_drift", "AUC 0.680 (0.675 to 0.685)"),
        ({"performance": evaluation(positive=0.29)}, "prior_shift", "gap +0.060"),
        ({"performance": evaluation(error=0.06)}, "prior_shift", "calibration error 0.060"),
        (
            {"columns": SHIFTED},
            "covariate_shift",
            "2 of 3 columns shifted by PSI over 0.25 (worst temperature, PSI 3.1)",
        ),
    ],
)
def test_each_cause_is_named_with_its_numbers(changes, cause, words):
    found = diagnose(evidence(**changes), CONFIG)
    assert found.cause == cause
    assert words in " ".join(found.reasons)


def test_what_must_not_be_trained_on_is_named_before_what_training_cures():
    assert cause_of(**DRIFTED) == "concept_drift"
    assert cause_of(**DRIFTED, skewed_share=0.5) == "serving_skew"
    unseen = {**DRIFTED, "columns": (*SHIFTED, drift("carrier", unseen_share=0.5))}
    assert cause_of(**unseen, skewed_share=0.5) == "unseen_categories"
    assert cause_of(**unseen, num_quarantined=9000) == "broken_data"


def test_a_loss_inside_the_interval_of_the_window_is_no_concept_drift():
    wide = evaluation(0.68)
    noisy = wide.model_copy(update={"roc_auc": wide.roc_auc.model_copy(update={"high": 0.71})})
    assert cause_of(performance=noisy) == "healthy"


def test_shifted_columns_are_listed_worst_first():
    assert diagnose(evidence(**DRIFTED), CONFIG).columns == ("temperature", "pressure")
