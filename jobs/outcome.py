"""How a job ends: one JSON line for programs, or one clear line for the person who can mend it."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping

import orjson
import typer
from pydantic import BaseModel


def report(record: BaseModel | Mapping[str, object]) -> None:
    """Print the job's record as the last line of its output."""
    content = record.model_dump(mode="json") if isinstance(record, BaseModel) else record
    sys.stdout.write(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn a user's mistake (ValueError, missing file) into one line and exit code 2."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from error


def stay(what: str) -> None:
    """Keep what this job started until Ctrl-C."""
    typer.secho(f"{what} stays up; press Ctrl-C to end it", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    typer.secho("ending", err=True)
