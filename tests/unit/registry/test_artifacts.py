"""The artifact store."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.model.manifest import ArtifactAltered, write_folder
from app.registry.artifacts import ArtifactMissing, Artifacts

FILES = {"a.json": b"{}", "weights.bin": bytes(range(256))}


def test_what_was_put_is_found_under_its_digest(tmp_path: Path) -> None:
    digest = write_folder(tmp_path / "new", FILES)
    store = Artifacts(tmp_path / "store")
    assert store.put(tmp_path / "new") == digest
    assert (store.path(digest) / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_putting_twice_and_at_once_leaves_one_folder(tmp_path: Path) -> None:
    digest = write_folder(tmp_path / "new", FILES)
    store = Artifacts(tmp_path / "store")
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(lambda _: store.put(tmp_path / "new"), range(16)))
    assert set(digests) == {digest}
    assert [path.name for path in (tmp_path / "store").iterdir()] == [digest]


def test_an_altered_folder_is_not_put(tmp_path: Path) -> None:
    write_folder(tmp_path / "new", FILES)
    (tmp_path / "new" / "a.json").write_text("[]")
    with pytest.raises(ArtifactAltered, match=r"a\.json"):
        Artifacts(tmp_path / "store").put(tmp_path / "new")


def test_an_artifact_altered_in_the_store_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "new", FILES)
    store = Artifacts(tmp_path / "store")
    digest = store.put(tmp_path / "new")
    (tmp_path / "store" / digest / "weights.bin").write_bytes(b"other")
    with pytest.raises(ArtifactAltered, match=r"weights\.bin"):
        store.path(digest)


@pytest.mark.parametrize("digest", ["0" * 64, "../store", "", "A" * 64, "0" * 63])
def test_an_unknown_or_odd_digest_is_missing(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ArtifactMissing):
        Artifacts(tmp_path).path(digest)
