"""The scoring benchmark's own parts: both say the same, and whoever does not is found out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.data.inputs import find_pieces
from app.data.tables import Tables
from app.model.bundle import ModelBundle
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.serving.scoring import Scoring, score_blocks, score_schema, scores_of
from app.serving.sinks import ParquetSink
from benchmarks.scoring import data, plain
from benchmarks.scoring.agreement import Disagreement, check
from benchmarks.scoring.described import config, contract
from benchmarks.scoring.world import make_workspace

NUM_ROWS = 3000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score")
    make_workspace(folder / "workspace", folder / "bundle")
    data.write_rows(folder / "rows", NUM_ROWS, file_rows=2000)
    settings = config(folder / "workspace")
    secret = Pseudonymiser(pseudonym_key(settings))
    bundle = ModelBundle.load(folder / "bundle")
    tables = Tables(settings.tables_path, contract())
    scoring = Scoring(contract(), bundle, secret, "v" * 64, tables)
    sink, schema = ParquetSink(str(folder / "ours")), score_schema(contract())
    sink.prepare(schema)
    for piece in find_pieces(str(folder / "rows"), contract()):
        sink.write(scores_of(piece, "v" * 64), schema, score_blocks(piece, scoring))
    (folder / "peer").mkdir()
    files = sorted(str(path) for path in (folder / "rows").glob("*.parquet"))
    assert len(files) == 2
    plain.score_files(files, str(folder / "peer"), str(folder / "bundle"))
    return folder


def test_both_score_thirty_columns_alike(world: Path) -> None:
    assert len(contract().columns) == 30
    assert check(world / "ours", world / "peer", NUM_ROWS) <= 1e-6
    # A score of the row beside would be found out.
    files = sorted((world / "peer").glob("*.parquet"))
    figures = np.concatenate([pq.read_table(file)["probability"].to_numpy() for file in files])
    assert np.median(np.abs(np.diff(figures))) > 1e-3


@pytest.mark.parametrize("change", ["lost", "doubled", "altered"])
def test_who_loses_doubles_or_alters_a_row_is_found_out(
    world: Path, tmp_path: Path, change: str
) -> None:
    whole = pa.concat_tables([pq.read_table(file) for file in (world / "peer").glob("*.parquet")])
    first, rest = whole.slice(0, 1), whole.slice(1)
    figure = pa.array([first["probability"][0].as_py() + 2e-6])
    changed = {
        "lost": rest,
        "doubled": pa.concat_tables([rest, rest.slice(0, 1)]),
        "altered": pa.concat_tables([rest, first.set_column(1, "probability", figure)]),
    }
    pq.write_table(changed[change], tmp_path / "scores.parquet")
    with pytest.raises(Disagreement):
        check(world / "ours", tmp_path, NUM_ROWS)
