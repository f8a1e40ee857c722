"""The page of a model card: everything in it, nothing fetched, nothing unescaped."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.console.charts import ForestRow, Frame, curve, forest
from app.console.model_card import render_card, write_cards
from tests.card_world import card_config, made_card, reported

CONFIG = card_config(Path("none"))
VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page: refuses tags that do not close, and counts what it meets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: dict[str, int] = {}
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met[tag] = self.met.get(tag, 0) + 1
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = render_card(made_card(CONFIG, reported()))
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert "script" not in page.met
    assert "url(" not in text
    # Three curves, declared slices, importance and losses at least.
    assert page.met["svg"] >= 6


def test_the_page_tells_the_figures_the_counts_and_the_costs() -> None:
    text, report = render_card(made_card(CONFIG, reported())), reported()
    assert report.operating is not None
    assert report.costs is not None
    assert f"{report.figures['roc_auc'].value:.3f}" in text
    assert f"{report.operating.false_negative:,}" in text
    assert f"{report.costs.operating.value:.3f}" in text
    assert "Optimistic" in text
    assert "depot = west" in text


def test_what_was_stated_cannot_break_the_page() -> None:
    text = render_card(made_card(CONFIG, reported()))
    assert "orders &lt;come&gt; late" in text
    assert "<come>" not in text


def test_a_card_without_a_report_is_a_page_too() -> None:
    page = Page(render_card(made_card(CONFIG, None)))
    assert page.open == []
    assert page.met["svg"] == 1


def test_both_files_are_written_under_the_short_digest(tmp_path: Path) -> None:
    card = made_card(CONFIG, reported())
    page, text = write_cards(card, tmp_path / "cards")
    assert (page.name, text.name) == (f"{card.digest[:12]}.html", f"{card.digest[:12]}.md")
    assert sorted(tmp_path.rglob("*.*")) == sorted([page, text])
    assert page.read_text() == render_card(card)


def test_curves_and_forests_stand_where_their_values_say() -> None:
    frame = Frame.square((0.0, 1.0), (0.0, 2.0))
    drawn = curve(frame, ((0.0, 0.0), (1.0, 2.0)), "main")
    assert f"M{frame.left:.1f} {frame.vertical.bottom:.1f}" in drawn
    assert f"L{frame.right:.1f} {frame.vertical.top:.1f}" in drawn
    row = ForestRow("a", "", 0.5, 0.4, 0.6, "calm", ("12",))
    text = forest("f", [row], reference=0.0, across="x", left=100.0, headings=("rows",))
    assert "a: 0.5000 [0.4000, 0.6000]" in text
    with pytest.raises(ValueError, match="zip"):
        forest("f", [row], reference=0.0, across="x", left=100.0, headings=("rows", "more"))
