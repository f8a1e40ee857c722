"""The page shows what happened, escaped, in one file."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.config import Config, load_config
from app.console.markup import Markup, tag
from app.console.page import render_page, write_page
from tests.unit.console.reports import FIRST, SECOND, Journal, board, decisions, report

ROOT = Path(__file__).resolve().parents[3]
VOID = {"meta"}


class Balance(HTMLParser):
    """Check that every element is closed in the order in which it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, name: str, attrs: object) -> None:
        self.seen.append(name)
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(ROOT / "configs" / "flights.yaml", [f"workspace={tmp_path}"])


def test_every_element_is_closed(config: Config):
    checker = Balance()
    checker.feed(render_page(report(), config))

    assert checker.open == []
    assert {"svg", "table", "h1", "time"} <= set(checker.seen)


def test_the_page_loads_nothing_and_runs_nothing(config: Config):
    page = render_page(report(), config)

    assert "<script" not in page
    assert not re.search(r"\b(src|srcset)=|@import|url\(|https?://", page)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))


def test_the_page_is_small_and_written_to_the_reports(config: Config):
    path = write_page(report(), config)

    assert path == config.reports_path / "loop.html"
    assert 10_000 < path.stat().st_size < 2_000_000
    assert [file.name for file in path.parent.iterdir()] == ["loop.html"]


def test_a_reason_cannot_bring_markup_in(config: Config):
    journal = Journal()
    journal.make(4, 1, FIRST, promoted=True)
    journal.act("alert", 5, 1, "<script>alert('x')</script> & more", cause="broken_data")

    page = render_page(report(decisions=tuple(journal.decisions)), config)

    assert "<script>" not in page
    assert "&lt;script&gt;alert('x')&lt;/script&gt; &amp; more" in page


def test_an_attribute_cannot_be_left():
    assert tag("p", title='" onload="x') == '<p title="&quot; onload=&quot;x"></p>'
    assert tag("p", Markup("<b>safe</b>"), "<i>") == "<p><b>safe</b>&lt;i&gt;</p>"


def test_reasons_and_the_numbers_of_the_gate_are_told(config: Config):
    page = render_page(report(), config)

    assert "diagnosis: <b>covariate shift</b>" in page
    assert "Brier gain +0.0200 [+0.0100, +0.0300]" in page
    assert "Took back the promotion" in page


def test_every_mark_on_the_time_axis_leads_to_its_decision(config: Config):
    page = render_page(report(), config)

    marks = re.findall(r'href="#(decision-\d+)"', page)
    assert marks == [f"decision-{number}" for number in range(1, 6)]
    assert all(f'id="{mark}"' in page for mark in marks)


def test_every_figure_of_the_scoreboard_is_in_the_table(config: Config):
    page = render_page(report(), config)

    table = page[page.index("All the numbers") :]
    assert all(f">{value:.3f}<" in table for value in (0.650, 0.715, 0.705, 0.690))
    assert table.count("<tr") >= 5


def test_the_best_of_a_month_is_marked(config: Config):
    page = render_page(report(), config)

    assert re.search(r'<td class="all best">0\.720</td>', page)
    assert not re.search(r'<td class="[^"]*best">0\.710</td>', page)


def test_versions_are_listed_by_digest_with_what_they_were_made_from(config: Config):
    page = render_page(report(), config)

    assert f'title="{FIRST}"' in page
    assert f'title="{SECOND}"' in page
    assert "80 rows until 1 Apr 2013" in page


def test_a_replay_without_evidence_or_decisions_still_has_its_page(config: Config):
    page = render_page(report(evidence=(), decisions=(), versions=()), config)

    assert "The loop took no decision" in page
    assert "Realised AUC" not in page


def test_a_month_without_a_ranking_is_left_blank(config: Config):
    gaps = {"static": (0.65, None, 0.69), "loop": (0.65, None, 0.7)}
    page = render_page(report(scoreboard=board(gaps)), config)

    assert "–</td>" in page
    assert "NaN" not in page


def test_a_decision_under_way_does_not_break_the_page(config: Config):
    told = [*decisions(), decisions()[3].model_copy(update={"outcome": None, "key": "x"})]

    assert "under way" in render_page(report(decisions=tuple(told)), config)
