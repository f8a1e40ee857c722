"""The card says what is known, and says plainly what is not."""

from pathlib import Path

from app.governance.card_markdown import render_markdown
from app.governance.model_card import OPTIMISM
from app.sections import CardConfig
from tests.card_world import card_config, made_card, reported, version

CONFIG = card_config(Path("none"))


def test_lineage_names_what_the_version_was_made_from() -> None:
    card, record = made_card(CONFIG, reported()), version(CONFIG)
    facts = {fact.term: fact.value for fact in card.lineage}
    assert facts["snapshot"] == record.dataset.digest
    assert facts["settings"] == record.config_digest
    assert facts["code"] == record.code_version
    assert facts["rows"] == "2,500"
    assert facts["kept for the gate"].startswith(f"{len(record.held_out_days)} days")
    assert card.num_rows_learned is not None
    assert [epoch.number for epoch in card.epochs] == list(range(1, len(card.epochs) + 1))


def test_what_nobody_stated_is_said_to_be_missing_and_how_to_state_it() -> None:
    silent = CONFIG.model_copy(update={"card": CardConfig()})
    card = made_card(silent, reported())
    assert not any(one.stated for one in card.statements)
    assert "card.purpose" in card.statements[0].says[0]
    assert "card.out_of_scope" in render_markdown(card)


def test_every_column_has_its_privacy_class_and_its_use() -> None:
    columns = {column.name: column for column in made_card(CONFIG, None).columns}
    assert set(columns) == {column.name for column in CONFIG.contract.columns}
    assert columns["order"].use == "kept, no feature"
    assert columns["weight"].use == "feature"


def test_the_markdown_holds_every_figure_and_the_warning() -> None:
    text = render_markdown(made_card(CONFIG, reported()))
    assert OPTIMISM in text
    for metric in reported().figures.values():
        assert f"{metric.value:.4f}" in text
    assert "depot = north" in text
    assert "--repeat first" in text


def test_what_was_stated_cannot_break_the_markdown() -> None:
    text = render_markdown(made_card(CONFIG, reported()))
    assert "Tell which orders &lt;come&gt; late." in text
    assert "Few rows \\| small" in text


def test_a_version_without_a_report_still_has_a_card() -> None:
    text = render_markdown(made_card(CONFIG, None))
    assert "No report lies beside the run" in text
    assert "At its gate" in text
