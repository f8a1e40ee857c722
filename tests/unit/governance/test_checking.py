"""A version checked: what is broken fails, what is different here and now is named."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import typer

from app.config import Config, show_config
from app.contracts.circumstances import Circumstances
from app.contracts.records import ModelVersion
from app.data.tables import open_tables
from app.governance.checking import Place, VersionCheck, check_version, find_checked
from app.ledger.database import Ledger, open_ledger
from app.registry.store import VersionUnknown, register_version
from app.training.circumstances import circumstances_here
from app.training.plans import RunUnknown, find_result, run_folder
from jobs import verify as job
from tests.learning_world import make_config
from tests.repeat_world import make_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one finished run, made once: tests change copies."""
    folder = tmp_path_factory.mktemp("finished")
    make_run(folder)
    return folder


@pytest.fixture
def config(finished: Path, tmp_path: Path) -> Config:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return make_config(tmp_path)


@pytest.fixture
def ledger(config: Config) -> Iterator[Ledger]:
    opened = open_ledger(config.ledger_url)
    register_version(opened, made(config))
    yield opened
    opened.close()


def made(config: Config) -> ModelVersion:
    result = find_result(config, "first")
    assert result is not None
    return result.version


def check(
    config: Config,
    ledger: Ledger,
    version: ModelVersion | None = None,
    here: Circumstances | None = None,
) -> VersionCheck:
    place = Place(config, ledger, open_tables(config), here or circumstances_here())
    return check_version(place, version or made(config), registered=True)


def states(checked: VersionCheck) -> dict[str, str]:
    return {each.name: each.state for each in checked.checks}


def test_a_version_that_is_as_it_was_made_is_verified(config: Config, ledger: Ledger) -> None:
    checked = check(config, ledger)
    assert checked.verified
    assert states(checked) == dict.fromkeys(
        (
            *("artifact", "card", "plan", "circumstances", "result"),
            *("snapshot", "code", "settings", "environment"),
        ),
        "ok",
    )


def test_another_byte_of_the_weights_fails(config: Config, ledger: Ledger) -> None:
    file = config.artifacts_path / made(config).digest / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    checked = check(config, ledger)
    assert not checked.verified
    assert states(checked)["artifact"] == "failed"
    assert states(checked)["snapshot"] == "ok"


def test_a_result_that_was_rewritten_fails_with_both_values(config: Config, ledger: Ledger) -> None:
    version = made(config)
    file = run_folder(config, "first") / "result.json"
    document = orjson.loads(file.read_bytes())
    document["version"]["seed"] = 99
    file.write_bytes(orjson.dumps(document))
    (failed,) = [each for each in check(config, ledger, version).checks if each.state == "failed"]
    assert (failed.name, failed.said) == ("result", "seed: registry 7, result 99")


def test_circumstances_that_were_rewritten_fail(config: Config, ledger: Ledger) -> None:
    file = run_folder(config, "first") / "circumstances.json"
    document = orjson.loads(file.read_bytes())
    document["workers"][0]["arithmetic"]["threads"] += 1
    file.write_bytes(orjson.dumps(document))
    checked = check(config, ledger)
    assert (checked.verified, states(checked)["circumstances"]) == (False, "failed")


def test_rows_that_are_not_those_that_were_pinned_fail(config: Config, ledger: Ledger) -> None:
    version = made(config)
    dataset = version.dataset.model_copy(update={"labels_version": -1})
    checked = check(config, ledger, version.model_copy(update={"dataset": dataset}))
    assert states(checked)["snapshot"] == "failed"
    gone = version.dataset.model_copy(update={"events_version": 99})
    checked = check(config, ledger, version.model_copy(update={"dataset": gone}))
    assert states(checked)["snapshot"] == "failed"


def test_other_settings_code_and_machines_are_named_and_nothing_fails(
    config: Config, ledger: Ledger
) -> None:
    here = circumstances_here()
    machine = here.driver.machine.model_copy(update={"processor": "Other CPU"})
    driver = here.driver.model_copy(update={"machine": machine})
    code = here.code.model_copy(update={"version": "0ther"})
    changed = here.model_copy(update={"driver": driver, "code": code})
    checked = check(make_config(config.workspace, seed=8), ledger, made(config), changed)
    assert checked.verified
    named = {
        difference.name: (difference.first, difference.second)
        for each in checked.checks
        if each.state == "differs"
        for difference in each.differences
    }
    assert named["training.seed"] == ("7", "8")
    assert named["code.version"] == (here.code.version, "0ther")
    assert named["machine.processor"] == (here.driver.machine.processor, "Other CPU")


def test_a_column_that_is_new_today_does_not_alter_the_snapshot(
    config: Config, ledger: Ledger
) -> None:
    columns = [each for each in config.contract.columns if each.name != "stops"]
    contract = config.contract.model_copy(update={"columns": tuple(columns)})
    checked = check(config.model_copy(update={"contract": contract}), ledger)
    assert states(checked)["snapshot"] == "ok"
    assert states(checked)["settings"] == "differs"


def test_a_version_without_its_runs_folder_is_checked_as_far_as_it_goes(
    config: Config, ledger: Ledger
) -> None:
    alone = made(config).model_copy(update={"run": "elsewhere"})
    checked = check(config, ledger, alone)
    assert checked.verified
    assert (states(checked)["plan"], states(checked)["environment"]) == ("absent", "absent")


def test_a_version_is_found_by_run_by_digest_or_not_at_all(config: Config, ledger: Ledger) -> None:
    version = made(config)
    assert find_checked(config, ledger, run="first") == (version, True)
    assert find_checked(config, ledger, version=version.digest[:8]) == (version, True)
    with pytest.raises(VersionUnknown, match="no champion yet"):
        find_checked(config, ledger)
    with pytest.raises(VersionUnknown, match="at least 6"):
        find_checked(config, ledger, version="ab")
    with pytest.raises(VersionUnknown, match="none of that digest"):
        find_checked(config, ledger, version="0" * 12)
    with pytest.raises(RunUnknown, match="nothing finished"):
        find_checked(config, ledger, run="never")


@pytest.mark.usefixtures("ledger")
def test_the_job_prints_the_checks_and_fails_with_them(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "orders.yaml"
    file.write_text(show_config(config))
    job.main(file, run="first")
    printed = capsys.readouterr()
    record = json.loads(printed.out.splitlines()[-1])
    assert (record["verified"], record["registered"]) == (True, True)
    assert "verified" in printed.err
    (config.artifacts_path / made(config).digest / "card.json").write_text("{}")
    with pytest.raises(typer.Exit) as ended:
        job.main(file, version=made(config).digest[:10])
    assert ended.value.exit_code == 1
    with pytest.raises(typer.Exit) as ended:
        job.main(file, run="first", version="ab")
    assert ended.value.exit_code == 2
