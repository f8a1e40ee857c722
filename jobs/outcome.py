"""How a job ends: one JSON line for programs, or one clear line for the person who can mend it."""

import contextlib
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

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


class Ending:
    """The wish to end, by Ctrl-C or SIGTERM: the first asks for it, the second ends at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Listen."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._earlier[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave signals to who had them before."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def is_asked(self) -> bool:
        """Tell whether the end is wished for."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the end is wished for; tell whether it is."""
        return self._asked.wait(seconds)

    def _ask(self, _number: int, _frame: object) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        typer.secho("ending after what is at hand; once more ends at once", err=True)


def stay(what: str) -> None:
    """Keep what this job started until Ctrl-C."""
    typer.secho(f"{what} stays up; press Ctrl-C to end it", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    typer.secho("ending", err=True)
