"""What a run is made under, read from git, the kernel's files and torch."""

import importlib.metadata
import subprocess
from pathlib import Path

import pytest
import torch

from app.training.assembly import code_version
from app.training.circumstances import (
    arithmetic_here,
    circumstances_here,
    code_at,
    machine_here,
    software_here,
)
from app.training.workers import add_workers, read_workers, write_workers
from tests.repeat_world import surroundings

CPU = "processor : 0\nmodel name : Some CPU 9000\nflags : {}\n\nprocessor : 1\nmodel name : Other\n"


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def repository(root: Path) -> Path:
    """Make a repository with one source file in its only commit."""
    (root / "app").mkdir(parents=True)
    (root / "app" / "__init__.py").write_text("one = 1\n")
    (root / "notes.md").write_text("one\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "Begin")
    return root


def test_without_git_the_digest_of_the_sources_stands(tmp_path: Path) -> None:
    code = code_at(tmp_path)
    assert code.version == code_version()
    assert (code.revision, code.dirty, code.changes) == (None, None, None)


def test_a_clean_revision_is_named_and_other_files_do_not_make_it_dirty(tmp_path: Path) -> None:
    root = repository(tmp_path / "project")
    (root / "notes.md").write_text("two\n")
    code = code_at(root)
    assert len(code.revision or "") == 40
    assert (code.dirty, code.changes) == (False, None)


def test_edits_and_new_sources_make_it_dirty_each_in_its_own_way(tmp_path: Path) -> None:
    root = repository(tmp_path / "project")
    seen = []
    for name, text in (("__init__.py", "one = 2\n"), ("__init__.py", "one = 3\n"), ("b.py", "")):
        (root / "app" / name).write_text(text)
        code = code_at(root)
        assert code.dirty is True
        seen.append(code.changes)
    (root / "app" / "b.py").write_text("two = 2\n")
    seen.append(code_at(root).changes)
    assert None not in seen
    assert len(set(seen)) == 4


def test_a_repository_around_the_code_says_nothing_about_it(tmp_path: Path) -> None:
    root = repository(tmp_path / "theirs")
    inner = root / "site-packages"
    (inner / "app").mkdir(parents=True)
    (inner / "app" / "__init__.py").write_text("")
    assert code_at(inner).revision is None


def test_the_machine_is_read_from_the_kernels_files(tmp_path: Path) -> None:
    card = tmp_path / "driver" / "nvidia" / "gpus" / "0000:01"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t Some GPU\nIRQ: 1\n")
    (card.parents[1] / "version").write_text("NVRM version: NVIDIA Module  550.54.15  Tue\n")
    machines = []
    for flags in ("avx sse", "sse avx", "sse avx avx2"):
        (tmp_path / "cpuinfo").write_text(CPU.format(flags))
        machines.append(machine_here(tmp_path))
    assert machines[0].processor == "Some CPU 9000"
    assert (machines[0].gpus, machines[0].gpu_driver) == (("Some GPU",), "550.54.15")
    assert machines[0] == machines[1]
    assert machines[0].flags != machines[2].flags


def test_a_machine_without_such_files_is_described_too(tmp_path: Path) -> None:
    machine = machine_here(tmp_path)
    assert machine.processor
    assert (machine.flags, machine.gpus, machine.gpu_driver) == ("", (), None)


def test_arithmetic_has_the_threads_and_only_what_libraries_read() -> None:
    environment = {"OMP_NUM_THREADS": "3", "MKL_CBWR": "AVX2", "PASSWORD": "x", "HOME": "y"}
    arithmetic = arithmetic_here("cpu", environment)
    assert arithmetic.environment == {"OMP_NUM_THREADS": "3", "MKL_CBWR": "AVX2"}
    assert arithmetic.threads == torch.get_num_threads()
    assert arithmetic.capability == torch.backends.cpu.get_cpu_capability()


def test_what_is_here_is_the_same_again_and_names_no_host() -> None:
    first, second = circumstances_here(), circumstances_here()
    assert (first, first.digest) == (second, second.digest)
    assert software_here(whole=False).installed is None
    assert first.driver.software.installed
    assert first.driver.software.packages["torch"] == importlib.metadata.version("torch")


def test_copies_that_a_package_puts_on_the_path_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = software_here(whole=True)
    facts = tmp_path / "bundled-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: bundled\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.metadata.version("bundled") == "1.0"
    assert software_here(whole=True) == before


def test_workers_are_kept_once_in_order_of_appearance() -> None:
    before = add_workers((), [surroundings(0).model_dump_json()])
    same = add_workers(before, [surroundings(0).model_dump_json()])
    assert same == before
    other = surroundings(0, processor="Other CPU")
    assert add_workers(before, [other.model_dump_json()]) == (surroundings(0), other)
    assert read_workers(write_workers((surroundings(0), other))) == (surroundings(0), other)
    assert read_workers({"state.json": b"{}"}) == ()
