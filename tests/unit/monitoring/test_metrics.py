import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import telemetry
from app.contracts.records import Action, Decision, Roles
from app.ledger.losses import Loss
from app.monitoring.metrics import Exporter, show_counts, show_evidence, show_loop, show_losses
from tests.unit.monitoring.logs import FIRST, Run, day, make_day, without_labels


@pytest.fixture
def exporter() -> Iterator[tuple[Exporter, str]]:
    exporter = Exporter("rides")
    server, port = exporter.serve("127.0.0.1", 0)
    yield exporter, f"http://127.0.0.1:{port}/metrics"
    server.shutdown()
    server.server_close()


def scrape(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = urllib.request.urlopen(url).read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_shows_counts_evidence_and_decisions(exporter: tuple[Exporter, str]) -> None:
    target, url = exporter
    run = Run()
    for number in range(3):
        run.fold(make_day(number))
    found = run.judge(day(3)).evidence[-1]
    decision = Decision(
        key="rides-0000-retrain",
        model="rides",
        at=FIRST,
        action=Action(kind="retrain", reasons=("first",)),
        epoch=1,
        outcome={"status": "done"},
    )

    show_counts(target, run.state)
    show_evidence(target, found)
    show_loop(target, Roles(model="rides", generation=3), [decision])

    values = scrape(url)
    model = ("model", "rides")
    assert found.performance is not None
    assert values["mainspring_predictions_total", (model,)] == 120
    assert values["mainspring_roc_auc", (("bound", "low"), model)] == found.performance.roc_auc.low
    assert values["mainspring_column_psi", (("column", "city"), model)] == found.columns[-1].psi
    assert values["mainspring_roles_generation", (model,)] == 3
    assert values["mainspring_decisions_total", (("action", "retrain"), model)] == 1


def test_what_replicas_lost_is_shown_by_table_and_reason(exporter: tuple[Exporter, str]) -> None:
    target, url = exporter
    losses = [
        Loss(replica, table, "disk_full", FIRST, FIRST, 5)
        for replica in ("a", "b")
        for table in ("events", "predictions")
    ]

    show_losses(target, [*losses, Loss("a", "events", "spool_full", FIRST, FIRST, 3)])

    values = scrape(url)
    lost = {
        (dict(labels)["table"], dict(labels)["reason"]): value
        for (name, labels), value in values.items()
        if name == "mainspring_lost_rows_total"
    }
    assert lost == {
        ("events", "disk_full"): 10,
        ("predictions", "disk_full"): 10,
        ("events", "spool_full"): 3,
    }


def test_figures_that_the_evidence_lacks_are_no_longer_shown(
    exporter: tuple[Exporter, str],
) -> None:
    target, url = exporter
    show_evidence(target, Run().fold(make_day(0)).fold(make_day(1)).judge(day(3)).evidence[-1])
    assert any(name == "mainspring_roc_auc" for name, _ in scrape(url))

    show_evidence(target, Run().fold(without_labels(make_day(0))).judge(day(3)).evidence[-1])

    assert not any(name == "mainspring_roc_auc" for name, _ in scrape(url))


def test_only_declared_metrics_are_exported(exporter: tuple[Exporter, str]) -> None:
    target, url = exporter
    run = Run().fold(make_day(0)).judge(day(1))
    show_counts(target, run.state)
    show_evidence(target, run.evidence[-1])

    assert {name for name, _ in scrape(url)} <= {spec.name for spec in telemetry.METRICS}


def test_a_metric_takes_its_own_labels_only() -> None:
    with pytest.raises(AssertionError, match="column"):
        Exporter("rides").set(telemetry.COLUMN_PSI, 1.0)
