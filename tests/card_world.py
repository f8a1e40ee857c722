"""A small trained version with its report and its card, made once for the tests that read them."""

import functools
from pathlib import Path

from app.config import Config
from app.contracts.evaluations import EvaluationReport
from app.contracts.records import DatasetVersion, ModelVersion
from app.governance.model_card import ModelCard, make_card
from app.sections import CardConfig, CostsConfig, EvaluationConfig
from app.training.assembly import Fitted, fit_in_process
from app.training.reporting import report_on
from tests.learning_world import CONTRACT, END, START, make_config, make_rows

EVALUATION = EvaluationConfig(
    flagged_share=0.25,
    costs=CostsConfig(false_positive=1, false_negative=3, unit="EUR"),
    num_bootstraps=40,
    min_slice_rows=40,
    importance_rows=300,
    importance_repeats=2,
)
STATED = CardConfig(purpose="Tell which orders <come> late.", limits=("Few rows | small",))


def card_config(workspace: Path) -> Config:
    """The world's configuration, with costs, slices and a statement."""
    config = make_config(workspace, epochs=8, patience=8, learning_rate=5e-3)
    contract = CONTRACT.model_copy(update={"slices": ("depot",)})
    changes = {"contract": contract, "evaluation": EVALUATION, "card": STATED}
    return config.model_copy(update=changes)


@functools.cache
def fitted() -> Fitted:
    """The version, trained in this process."""
    config = card_config(Path("none"))
    return fit_in_process(config, make_rows(2500), END, facts={"run": "first"})


@functools.cache
def reported() -> EvaluationReport:
    """Its report."""
    stop = fitted().window.labelled_stop
    return report_on(fitted().searched, stop, EVALUATION, run="first", seed=7)


def version(config: Config) -> ModelVersion:
    """Its record."""
    dataset = DatasetVersion(
        start=START,
        end=END,
        known_at=END,
        events_version=1,
        labels_version=1,
        digest="ab" * 16,
        num_rows=2500,
        num_known=2250,
        num_void=150,
    )
    return fitted().version(config, dataset, "first", END)


def made_card(config: Config, report: EvaluationReport | None) -> ModelCard:
    """Its card."""
    bundle = fitted().bundle
    return make_card(
        config,
        version(config),
        bundle.contract,
        bundle.card,
        config_file="configs/orders.yaml",
        role="champion",
        report=report,
        gate=fitted().evaluation,
    )
