"""Batch scoring on Ray Data: same probabilities, every row, on from where it was cut off."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config import load_config
from app.ledger.database import open_ledger
from app.serving.scoredsource import scoring_of
from app.serving.scoresinks import open_sink
from tests.serving_world import give_roles, make_bundle, make_table, put_version

pytestmark = pytest.mark.ray


def test_files_are_scored_by_the_champion_and_a_second_run_does_only_what_is_missing(
    ray_cluster: None, tmp_path: Path
) -> None:
    from app.registry.store import VersionUnknown
    from app.serving.batch import score

    config = load_config("configs/flights.yaml", [f"workspace={tmp_path / 'workspace'}"])
    table = make_table(config.contract, 60)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=20)
    config = scoring_of(config, str(tmp_path / "rows.parquet"))
    into = tmp_path / "scores"
    sink = open_sink(str(into))
    ledger = open_ledger(config.ledger_url)
    with pytest.raises(VersionUnknown, match="flights: no version is registered"):
        score(config, sink)
    champion = put_version(config, ledger, seed=1)
    give_roles(ledger, config.name, champion)

    result = score(config, sink)

    assert (result.num_in, result.num_scored, result.num_rejected) == (60, 60, 0)
    assert (result.num_pieces, result.num_pieces_found, result.version) == (3, 0, champion)
    scores = pa.concat_tables([pq.read_table(path) for path in sorted(into.iterdir())])
    assert scores["position"].to_pylist() == list(range(60))
    expected = make_bundle(config.contract, seed=1).predict(table)
    np.testing.assert_allclose(scores["probability"], expected, atol=1e-6)

    kept, lost = sorted(into.iterdir())[0], sorted(into.iterdir())[1]
    written = kept.stat().st_mtime_ns
    lost.unlink()
    again = score(config, sink)

    assert (again.num_in, again.num_pieces_found) == (60, 2)
    assert kept.stat().st_mtime_ns == written
    ledger.close()
