"""Bundles: one prediction, verified files."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.model.bundle import DESCRIPTIONS, ArtifactAltered, ModelBundle
from app.model.calibration import Calibrator, Correction, Isotonic, Temperature, Unchanged
from app.model.manifest import MANIFEST, write_folder
from app.model.networks import WEIGHTS
from tests.learning_world import make_bundle, make_rows

ROWS = make_rows(400)
BUNDLE = make_bundle(ROWS)


def test_a_bundle_read_back_predicts_the_same_bits(tmp_path: Path) -> None:
    digest = BUNDLE.save(tmp_path / "bundle")
    again = ModelBundle.load(tmp_path / "bundle", digest)
    np.testing.assert_array_equal(again.predict(ROWS), BUNDLE.predict(ROWS))
    assert again.digest == BUNDLE.digest == digest
    assert again.profile.to_json() == BUNDLE.profile.to_json()


def test_a_prediction_does_not_depend_on_the_batch() -> None:
    together = BUNDLE.predict(ROWS)
    assert together.dtype == np.float64
    assert together.shape == (400,)
    alone = np.concatenate([BUNDLE.predict(ROWS.slice(i, 1)) for i in range(50)])
    np.testing.assert_allclose(alone, together[:50], atol=1e-6, rtol=0)
    np.testing.assert_allclose(
        BUNDLE.predict(ROWS.slice(7, 200)), together[7:207], atol=1e-6, rtol=0
    )


def test_tables_longer_than_a_piece_are_predicted_whole() -> None:
    rows = make_rows(5000, seed=2)
    np.testing.assert_allclose(
        BUNDLE.predict(rows)[4999:], BUNDLE.predict(rows.slice(4999)), atol=1e-6
    )
    assert BUNDLE.predict(rows.slice(0, 0)).shape == (0,)


def test_other_columns_and_their_order_do_not_matter() -> None:
    turned = ROWS.select(list(reversed(ROWS.column_names)))
    np.testing.assert_array_equal(BUNDLE.predict(turned), BUNDLE.predict(ROWS))


def test_another_calibrator_makes_another_bundle() -> None:
    moved = BUNDLE.with_calibrator(Calibrator(intercept=1.0), {"seed": 0})
    assert moved.digest != BUNDLE.digest
    assert (moved.predict(ROWS) > BUNDLE.predict(ROWS)).all()
    np.testing.assert_array_equal(moved.uncalibrated(ROWS), BUNDLE.uncalibrated(ROWS))


@pytest.mark.parametrize(
    "calibrator",
    [
        Temperature(slope=0.5),
        Isotonic(scores=(0.1, 0.9), values=(0.2, 0.3), reason="asked for"),
        Unchanged(),
    ],
    ids=lambda calibrator: type(calibrator).__name__,
)
def test_a_bundle_of_any_calibrator_is_read_back_whole(
    tmp_path: Path, calibrator: Correction
) -> None:
    bundle = BUNDLE.with_calibrator(calibrator, {"seed": 0})
    again = ModelBundle.load(tmp_path, bundle.save(tmp_path))
    assert again.calibrator == calibrator
    np.testing.assert_array_equal(again.predict(ROWS), bundle.predict(ROWS))
    np.testing.assert_array_equal(again.predict(ROWS), calibrator.apply(BUNDLE.uncalibrated(ROWS)))


def test_equal_bundles_have_equal_digests() -> None:
    assert make_bundle(ROWS).digest == BUNDLE.digest
    assert make_bundle(ROWS, seed=1).digest != BUNDLE.digest


@pytest.mark.parametrize("name", [*(*DESCRIPTIONS, WEIGHTS), MANIFEST])
def test_a_changed_byte_is_refused(tmp_path: Path, name: str) -> None:
    digest = BUNDLE.save(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(ArtifactAltered):
        ModelBundle.load(tmp_path, digest)


@pytest.mark.parametrize("name", [*(*DESCRIPTIONS, WEIGHTS), MANIFEST])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    BUNDLE.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactAltered, match=name):
        ModelBundle.load(tmp_path)


def test_an_extra_file_is_refused(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path)
    (tmp_path / "more.json").write_text("{}")
    with pytest.raises(ArtifactAltered, match=r"more\.json"):
        ModelBundle.load(tmp_path)


def test_another_digest_is_refused(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path)
    with pytest.raises(ArtifactAltered, match="expected 0000"):
        ModelBundle.load(tmp_path, "0" * 64)


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    network = json.loads(BUNDLE.files["network.json"])
    network["config"]["hidden"] = 32
    write_folder(tmp_path, {**BUNDLE.files, "network.json": json.dumps(network).encode()})
    with pytest.raises(ArtifactAltered, match="do not fit together"):
        ModelBundle.load(tmp_path)


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "bundle"
    folder.mkdir()
    manifest = {"format": 1, "files": {"../secret": {"sha256": "0" * 64, "bytes": 6}}}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactAltered, match="no plain file name"):
        ModelBundle.load(folder)


def test_writing_leaves_nothing_but_the_named_files(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*(*DESCRIPTIONS, WEIGHTS), MANIFEST}
