"""Export what the monitor knows to Prometheus, from one place.

Knows metric specifications and prometheus-client; knows nothing of Ray or of how the numbers came
about. Values are set whole, so that a restarted monitor goes on where its state stands.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app import telemetry
from app.contracts.records import Decision, Evaluation, Evidence, Roles
from app.contracts.records import Metric as Figure
from app.ledger.losses import Loss
from app.monitoring.state import FoldState
from app.telemetry import MetricSpec


class Exporter(Collector):
    """The current value of every metric of one model."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._model = model
        self._values: dict[MetricSpec, dict[tuple[str, ...], float]] = {}
        self._guard = threading.Lock()
        self.registry.register(self)

    def set(self, spec: MetricSpec, value: float, **labels: str) -> None:
        """Set a metric. Labels other than the model are those of its specification, all of them."""
        key = self._key(spec, labels)
        with self._guard:
            self._values.setdefault(spec, {})[key] = float(value)

    def add(self, spec: MetricSpec, amount: float = 1.0, **labels: str) -> None:
        """Add to a metric that counts since the process started."""
        key = self._key(spec, labels)
        with self._guard:
            values = self._values.setdefault(spec, {})
            values[key] = values.get(key, 0.0) + amount

    def drop(self, *specs: MetricSpec) -> None:
        """Stop exporting metrics that nobody knows the value of any more."""
        with self._guard:
            for spec in specs:
                self._values.pop(spec, None)

    def collect(self) -> Iterable[Metric]:
        """Give the metrics to a scrape."""
        with self._guard:
            values = {spec: dict(samples) for spec, samples in self._values.items()}
        for spec, samples in values.items():
            family = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
            metric = family(spec.name, spec.description, labels=spec.labels)
            for labels, value in sorted(samples.items()):
                metric.add_metric(labels, value)
            yield metric

    def serve(self, host: str, port: int) -> tuple[WSGIServer, int]:
        """Answer scrapes in a thread; port 0 picks a free one. Returns the server and its port."""
        server, _ = start_http_server(port, host, self.registry)
        return server, int(server.server_port)

    def _key(self, spec: MetricSpec, labels: dict[str, str]) -> tuple[str, ...]:
        given = {"model": self._model, **labels}
        assert set(given) == set(spec.labels), f"{spec.name} has the labels {spec.labels}"
        return tuple(given[name] for name in spec.labels)


def show_counts(exporter: Exporter, state: FoldState) -> None:
    """Export what went through the fold."""
    counts = state.counts
    exporter.set(telemetry.PREDICTIONS, counts.num_predictions)
    exporter.set(telemetry.REPEATED_PREDICTIONS, counts.num_repeated_predictions)
    exporter.set(telemetry.LABELS, counts.num_labels)
    exporter.set(telemetry.REPEATED_LABELS, counts.num_repeated_labels)
    exporter.set(telemetry.REVISED_LABELS, counts.num_revised_labels)
    exporter.set(telemetry.EXPIRED_ROWS, counts.num_expired)
    exporter.set(telemetry.QUARANTINED_ROWS, counts.num_quarantined)
    exporter.set(telemetry.UNKNOWN_LABELS, state.num_unknown_labels)


def show_losses(exporter: Exporter, losses: Sequence[Loss]) -> None:
    """Export what replicas answered and could not keep: it is missing from all other counts."""
    lost = Counter[tuple[str, str]]()
    for loss in losses:
        lost[loss.table, loss.reason] += loss.num_rows
    for (table, reason), number in lost.items():
        exporter.set(telemetry.LOST_ROWS, number, table=table, reason=reason)


def show_evidence(exporter: Exporter, evidence: Evidence) -> None:
    """Export the latest evidence; figures that it lacks are no longer exported."""
    exporter.set(telemetry.LABEL_COVERAGE, evidence.coverage)
    exporter.set(telemetry.WINDOW_PREDICTIONS, evidence.num_predictions)
    exporter.set(telemetry.WINDOW_LABELS, evidence.num_known)
    exporter.set(telemetry.NEW_LABELS, evidence.num_new_labels)
    exporter.set(telemetry.PREDICTION_PSI, evidence.prediction_psi)
    exporter.set(telemetry.MEAN_PROBABILITY, evidence.mean_probability)
    exporter.set(telemetry.SKEWED_SHARE, evidence.skewed_share)
    exporter.set(telemetry.REFERENCE_ROC_AUC, evidence.reference.roc_auc.value)
    for column in evidence.columns:
        exporter.set(telemetry.COLUMN_PSI, column.psi, column=column.column)
        exporter.set(telemetry.COLUMN_NULL_SHARE, column.null_share, column=column.column)
        exporter.set(telemetry.COLUMN_UNSEEN_SHARE, column.unseen_share, column=column.column)
    _show_performance(exporter, evidence.performance)


def show_loop(exporter: Exporter, roles: Roles, decisions: Sequence[Decision]) -> None:
    """Export which generation serves and what the loop has done."""
    exporter.set(telemetry.GENERATION, roles.generation)
    done: dict[str, int] = {}
    for decision in decisions:
        if decision.outcome is not None:
            done[decision.action.kind] = done.get(decision.action.kind, 0) + 1
    for action, count in done.items():
        exporter.set(telemetry.DECISIONS, count, action=action)


def _show_performance(exporter: Exporter, live: Evaluation | None) -> None:
    figures = (telemetry.ROC_AUC, telemetry.PR_AUC, telemetry.BRIER)
    if live is None:
        exporter.drop(*figures, telemetry.CALIBRATION_ERROR, telemetry.POSITIVE_SHARE)
        return
    for spec, figure in zip(figures, (live.roc_auc, live.pr_auc, live.brier), strict=True):
        _show_figure(exporter, spec, figure)
    exporter.set(telemetry.CALIBRATION_ERROR, live.calibration_error)
    exporter.set(telemetry.POSITIVE_SHARE, live.positive_share)


def _show_figure(exporter: Exporter, spec: MetricSpec, figure: Figure) -> None:
    exporter.set(spec, figure.value, bound="value")
    exporter.set(spec, figure.low, bound="low")
    exporter.set(spec, figure.high, bound="high")
