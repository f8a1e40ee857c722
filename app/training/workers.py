"""Who worked on a run, kept in its checkpoints: each worker says what it runs in.

Knows records and files' contents; knows nothing of Ray. A checkpoint may have been written by
workers elsewhere, before the run was taken up again: those are kept too.
"""

from collections.abc import Iterable, Mapping

from pydantic import TypeAdapter

from app.contracts.circumstances import Surroundings

FILE = "workers.json"
_LIST = TypeAdapter(tuple[Surroundings, ...])


def add_workers(seen: tuple[Surroundings, ...], told: Iterable[str]) -> tuple[Surroundings, ...]:
    """Add what workers tell, as JSON, to those seen before; each once, in order of appearance."""
    found = [Surroundings.model_validate_json(text) for text in told]
    return tuple({each.model_dump_json(): each for each in (*seen, *found)}.values())


def write_workers(workers: tuple[Surroundings, ...]) -> dict[str, bytes]:
    """Write as a checkpoint's file."""
    return {FILE: _LIST.dump_json(workers, indent=1)}


def read_workers(files: Mapping[str, bytes]) -> tuple[Surroundings, ...]:
    """Read from a checkpoint's files; none in one of before they were kept."""
    return _LIST.validate_json(files[FILE]) if FILE in files else ()
