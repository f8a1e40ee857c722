"""The only list of metric names and labels, and JSON logs that carry only the fields listed here.

Knows names, kinds and what may be written; knows nothing of who measures or who scrapes. Labels are
bounded sets (a model, a column of its contract, an action), never ids.
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

MetricKind = Literal["counter", "gauge"]


@dataclass(frozen=True)
class MetricSpec:
    """One exported metric. A counter's name ends in `_total`, a quantity's in its unit."""

    name: str
    kind: MetricKind
    description: str
    labels: tuple[str, ...] = ("model",)


def _counter(name: str, description: str, *labels: str) -> MetricSpec:
    return MetricSpec(f"mainspring_{name}_total", "counter", description, ("model", *labels))


def _gauge(name: str, description: str, *labels: str) -> MetricSpec:
    return MetricSpec(f"mainspring_{name}", "gauge", description, ("model", *labels))


# What the logs held.
PREDICTIONS = _counter("predictions", "Distinct predictions folded from the log.")
REPEATED_PREDICTIONS = _counter("repeated_predictions", "Predictions whose idempotency key was in.")
LABELS = _counter("labels", "Distinct label reports folded from the log.")
REPEATED_LABELS = _counter("repeated_labels", "Label reports that said what was known already.")
REVISED_LABELS = _counter("revised_labels", "Label reports for a row that had another report.")
EXPIRED_ROWS = _counter("expired_rows", "Log rows older than the monitor's memory.")
QUARANTINED_ROWS = _counter("quarantined_rows", "Rows that broke the contract, from the log.")
LOST_ROWS = _counter("lost_rows", "Rows answered and not kept.", "table", "reason")
UNKNOWN_LABELS = _gauge("unknown_labels", "Labelled row ids without a prediction.")

# What the latest evidence says of the champion.
ROC_AUC = _gauge("roc_auc", "Realised ROC-AUC of the window and its interval.", "bound")
PR_AUC = _gauge("pr_auc", "Realised PR-AUC of the window and its interval.", "bound")
BRIER = _gauge("brier_score", "Realised Brier score of the window and its interval.", "bound")
CALIBRATION_ERROR = _gauge("calibration_error", "Expected calibration error of the window.")
REFERENCE_ROC_AUC = _gauge("reference_roc_auc", "ROC-AUC when the version was trained.")
POSITIVE_SHARE = _gauge("positive_share", "Share of positive outcomes among known labels.")
MEAN_PROBABILITY = _gauge("mean_probability", "Mean predicted probability of the window.")
LABEL_COVERAGE = _gauge("label_coverage", "Share of mature predictions with an outcome.")
WINDOW_PREDICTIONS = _gauge("window_predictions", "Predictions of the version in the window.")
WINDOW_LABELS = _gauge("window_labels", "Known labels of the version in the window.")
NEW_LABELS = _gauge("new_labels", "Known labels since the version's training ended.")
COLUMN_PSI = _gauge("column_psi", "Population stability index against training.", "column")
COLUMN_NULL_SHARE = _gauge("column_null_share", "Share of nulls in the window.", "column")
COLUMN_UNSEEN_SHARE = _gauge("column_unseen_share", "Share of unseen categories.", "column")
PREDICTION_PSI = _gauge("prediction_psi", "Population stability index of the probabilities.")
SKEWED_SHARE = _gauge("skewed_share", "Share of sampled predictions not reproduced offline.")

# How the parts are doing.
WATERMARK = _gauge("watermark_seconds", "Everything before this Unix time was folded.", "part")
FOLD_SECONDS = _gauge("fold_seconds", "Time of the latest fold.")
FOLDS = _counter("folds", "Batches folded since this process started.")
FOLD_ERRORS = _counter("fold_errors", "Ticks that failed since this process started.")
REPORTS = _counter("reports", "Drift reports since this process started.", "outcome")
GENERATION = _gauge("roles_generation", "Generation of the roles row.")
DECISIONS = _counter("decisions", "Completed decisions of the loop by action.", "action")

METRICS: tuple[MetricSpec, ...] = tuple(
    value for value in tuple(globals().values()) if isinstance(value, MetricSpec)
)

# A field that is not listed is dropped from the log line: rows, ids and keys have no way in.
LOG_FIELDS: frozenset[str] = frozenset(
    {
        "action",
        "attempt",
        "cause",
        "end",
        "epoch",
        "generation",
        "model",
        "num_events",
        "num_evidence",
        "num_labels",
        "num_predictions",
        "num_quarantined",
        "num_rows",
        "outcome",
        "part",
        "path",
        "port",
        "reasons",
        "run",
        "seconds",
        "step",
        "table",
        "version",
        "watermark",
    }
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """Write one JSON object a line; fields outside the allow-list are counted, not written."""

    def format(self, record: logging.LogRecord) -> str:
        """Turn a record and its `extra` fields into a line."""
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **allowed_fields(extra),
        }
        if dropped := len(extra.keys() - LOG_FIELDS):
            line["dropped_fields"] = dropped
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def allowed_fields(extra: Mapping[str, object]) -> dict[str, object]:
    """Keep the fields that may be logged.

    >>> allowed_fields({"model": "flights", "tail": "N14228"})
    {'model': 'flights'}
    """
    return {name: value for name, value in extra.items() if name in LOG_FIELDS}


def log_json(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Send the app's logs as JSON lines to a stream, standard error by default; return the handler.

    Calling it again replaces the earlier handler, so that no line is written twice.
    """
    logger = logging.getLogger("app")
    for handler in [h for h in logger.handlers if isinstance(h.formatter, JsonFormatter)]:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler
