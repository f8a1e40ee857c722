"""How a job ends: one JSON line for programs, or one clear line for the person who can mend it."""

import contextlib
import shlex
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


def curl_command(url: str, body: str, key: str = "") -> str:
    r"""Write the shell command that posts a JSON body; the key may be a shell variable.

    >>> print(curl_command("http://127.0.0.1:8000/v1/m/labels", '{"labels": []}', "$KEY"))
    curl -s http://127.0.0.1:8000/v1/m/labels -H "Authorization: Bearer $KEY" \
      -H 'Content-Type: application/json' -d '{"labels": []}'
    """
    words = ["curl", "-s", shlex.quote(url)]
    if key:
        words += ["-H", f'"Authorization: Bearer {key}"']
    body_words = ["-H", "'Content-Type: application/json'", "-d", shlex.quote(body)]
    return " ".join(words) + " \\\n  " + " ".join(body_words)


def stay(what: str) -> None:
    """Keep what this job started until Ctrl-C."""
    typer.secho(f"{what} stays up; press Ctrl-C to end it", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    typer.secho("ending", err=True)
