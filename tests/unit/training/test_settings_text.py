"""Values written into a configuration file leave the rest of it as a person wrote it."""

from pathlib import Path

import pytest
import yaml

from app.config import Config, load_config
from app.training.settings_text import HEADING, write_settings

FLIGHTS = Path(__file__).resolve().parents[3] / "configs" / "flights.yaml"


def test_only_the_named_values_of_a_real_file_change(tmp_path: Path, flights: Config) -> None:
    text = FLIGHTS.read_text()
    values = {
        "training.learning_rate": 1e-4,
        "training.network.hidden": 256,
        "training.network.embedding": 12,
        "features.max_categories": 50,
        "loop.watch.days": 3,
    }
    written = write_settings(text, values)
    before, after = text.splitlines(), written.splitlines()
    gone = [line for line in before if line not in after]
    assert gone == [
        "  learning_rate: 0.002",
        "  network: {hidden: 192, num_layers: 2, num_members: 4, dropout: 0.3}",
    ]
    assert [line for line in after if line not in before] == [
        "  max_categories: 50",
        "  learning_rate: 0.0001",
        "  network: {hidden: 256, num_layers: 2, num_members: 4, dropout: 0.3, embedding: 12}",
        "  watch:",
        "    days: 3",
    ]
    file = tmp_path / "best.yaml"
    file.write_text(written)
    made = load_config(file)
    assert made.training.network.embedding == 12
    assert made.contract == flights.contract


@pytest.mark.parametrize(
    ("text", "values", "written"),
    [
        ("a: 1  # why\n", {"a": 2}, "a: 2  # why\n"),
        ("a: 1", {"b.c": 2}, "a: 1\nb:\n  c: 2\n"),
        ("a: 'x'\nb: 2\n", {"a": "y: z"}, "a: 'y: z'\nb: 2\n"),
        ("a: {}\n", {"a.b": True}, "a: {b: true}\n"),
        ("a: {b: {c: 1}}\n", {"a.b.d": 2}, "a: {b: {c: 1, d: 2}}\n"),
        ("a:\n  b: 1\n\n# of d\nd: 1\n", {"a.c": 2}, "a:\n  b: 1\n  c: 2\n\n# of d\nd: 1\n"),
        ("a:\n    b: 1\n", {"a.c.d": 2}, "a:\n    b: 1\n    c:\n      d: 2\n"),
        ("a:\n  t: |\n    x\n\nb: 1\n", {"a.z": 2}, "a:\n  t: |\n    x\n\n  z: 2\nb: 1\n"),
        ("a: {b: 1}\n", {"a": {"c": 2}}, "a: {c: 2}\n"),
    ],
)
def test_a_value_is_written_where_it_belongs(
    text: str, values: dict[str, object], written: str
) -> None:
    assert write_settings(text, values) == written


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("a: &x {b: 1}\nc: *x\n", {"c.b": 2}, {"a": {"b": 1}, "c": {"b": 2}}),
        ("a:\nb: 1\n", {"a.b": 2}, {"a": {"b": 2}, "b": 1}),
        ("a:\n  b: 1\n", {"a": {"c": 2}}, {"a": {"c": 2}}),
        ("a:\n- 1\n", {"a.b": 2}, {"a": {"b": 2}}),
    ],
)
def test_a_text_that_cannot_be_changed_in_place_is_written_anew_and_says_so(
    text: str, values: dict[str, object], expected: dict[str, object]
) -> None:
    written = write_settings(text, values)
    assert written.startswith(HEADING)
    assert yaml.safe_load(written) == expected
