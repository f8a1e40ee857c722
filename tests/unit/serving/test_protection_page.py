"""The page on protection: its configurations load, and its names are those of the code."""

import re
from pathlib import Path
from typing import get_args

import yaml

from app.sections import GuardConfig, ServingConfig
from app.serving.losses import Reason

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "protection.md").read_text()


def test_every_configuration_of_the_page_loads_together() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    serving: dict[str, object] = {}
    for block in blocks:
        serving |= yaml.safe_load(block)["serving"]

    loaded = ServingConfig.model_validate(serving)

    assert loaded.tokens is not None
    assert loaded.tokens.roles["auditor"] == ("audit",)
    assert loaded.limits.rows_per_day == 1_000_000
    assert (loaded.capture.when_full, loaded.capture.max_spool_mb) == ("answer", 4096)
    assert loaded.max_wait_ms == 150
    assert (loaded.guard.range, loaded.guard.outlier) == ("flag", "refuse")


def test_every_reason_of_a_loss_is_named() -> None:
    told = re.search(r"by table, reason \((.*?)\)", PAGE)
    assert told is not None
    assert re.findall(r"`(\w+)`", told.group(1)) == list(get_args(Reason))


def test_the_table_of_findings_names_every_policy() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    kinds = {name for name in GuardConfig.model_fields if name != "outlier_iqrs"}
    assert {name for name, _ in rows} == kinds
    for name in ("range", "unseen"):
        allowed = str(GuardConfig.model_fields[name].annotation)
        assert re.findall(r"'(\w+)'", allowed) == dict(rows)[name].split(", ")
