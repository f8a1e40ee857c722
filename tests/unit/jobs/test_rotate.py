import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from app.config import Config, show_config
from app.data.delta_log import data_files
from app.data.sealing import key_of
from app.data.tables import open_tables
from app.security.keyring import open_keyring
from jobs.rotate import main

NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)


def test_the_job_prints_what_it_did_and_leaves_one_key(
    flights: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {
        "row": ["row"],
        "reasons": [["heavy"]],
        "position": [1],
        "source": ["test"],
        "ingested_at": [NOON],
    }
    tables = open_tables(flights)
    tables.append("quarantine", pa.table(content))
    old = open_keyring(flights).current()
    file = tmp_path / "flights.yaml"
    file.write_text(show_config(flights))

    main(file)

    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["retired"] == [old]
    assert told["num_files"]["quarantine"] == 1
    assert (told["num_elsewhere"], told["kept"]) == (0, {})
    assert open_keyring(flights).ids() == (told["key"],)
    assert [key_of(f) for f in data_files(tables.folder("quarantine"))] == [told["key"]]
    assert tables.read("quarantine")["row"].to_pylist() == ["row"]
