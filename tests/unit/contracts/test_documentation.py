"""What docs/contract.md shows is what the code takes."""

import re
from pathlib import Path

import yaml

from app.contracts.expressions import FUNCTIONS
from app.contracts.rows import Contract
from app.contracts.syntax import MAX_CHARACTERS
from app.contracts.windows import SUBJECTS, Arrivals
from app.sections import IntakeConfig

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "contract.md").read_text()


def test_the_example_loads() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    example = yaml.safe_load(block)
    contract = Contract.model_validate(example["contract"])
    assert len(contract.conditions) == len(example["contract"]["rules"]) == 5
    assert contract.forbidden_names == {"passport"}
    assert {window.aggregate for window in contract.windows} == {*SUBJECTS} - {"sum"}
    assert [window.entity for window in contract.windows] == [*["sender"] * 4, "depot"]
    assert IntakeConfig.model_validate(example["intake"]).volume == "stop"


def test_every_function_and_every_dial_is_described() -> None:
    assert not [name for name in (*FUNCTIONS, *IntakeConfig.model_fields) if f"`{name}" not in TEXT
                and name != "num_examples"]  # fmt: skip
    assert str(MAX_CHARACTERS) in TEXT


def test_every_aggregate_and_every_dial_of_windows_is_described() -> None:
    dials = [f"arrivals.{name}" for name in Arrivals.model_fields]
    assert not [name for name in (*SUBJECTS, *dials) if f"`{name}" not in TEXT]
