"""Forget subjects: their rows leave every store, every old version and every log, for good."""

import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.config import Config, load_config
from app.data.tables import open_tables
from app.governance.eraser import Erased, Eraser
from app.governance.erasure import tell_receipt
from app.governance.verification import verify_receipt
from app.governance.workplace import Workplace
from app.ledger.clock import read_clock
from app.ledger.database import open_ledger
from app.ledger.erasures import read_erasures
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors

SUBJECT_HELP = (
    "File with one subject a line: a value of the contract's entity or of a personal column, or "
    "its pseudonym. Without it, lines are read from the input."
)
WARNING = "--subject shows who it is to everybody who lists processes; prefer the input or a file"


def main(
    config: ConfigFile,
    subject_file: Annotated[Path | None, typer.Option(help=SUBJECT_HELP)] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(help="A subject, may be repeated. Other users of this machine can see it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish an erasure that was cut off; asks for nobody.")
    ] = False,
    verify: Annotated[
        str | None,
        typer.Option(metavar="RECEIPT", help="Check a receipt again, and search everything again."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the receipts.")] = False,
    set_: Overrides = None,
) -> None:
    """Erase everything about subjects, and leave a receipt that does not say who they were.

    Their rows vanish from events, quarantine, predictions, labels, captured rows, scores, reports
    and the monitor's memory, from every older version of a table and from its log. Tombstones keep
    them from coming back; models that had learned from them are marked. Asked again, it finds
    nothing more to do; cut off anywhere, it goes on where it was. Example:

    echo "N14228" | python -m jobs.erase --config configs/flights.yaml
    """
    console = Console(stderr=True)
    with user_errors():
        settings = load_config(config, set_ or [])
        if subject:
            console.print(WARNING, style="yellow", soft_wrap=True)
        asks = not (resume or list_ or (verify and not subject_file and not subject))
        subjects = read_subjects(subject_file, subject or []) if asks else []
        if list_:
            record = list_receipts(settings)
        elif verify:
            record = check(settings, verify, subjects, console)
        else:
            record = erase(settings, subjects, console)
        report(record)
        if record.get("verified") is False:
            raise typer.Exit(1)


def read_subjects(file: Path | None, given: list[str]) -> list[str]:
    """Read one subject a line from a file or the input, beside those given on the command line.

    Raises ValueError when there is none.
    """
    text = file.read_text() if file else "" if given else _read_input()
    subjects = [*given, *(line.strip() for line in text.splitlines())]
    if not any(subjects):
        raise ValueError(
            "subjects: none given; write one a line to the input or to a --subject-file"
        )
    return [subject for subject in subjects if subject]


def erase(config: Config, subjects: list[str], console: Console) -> dict[str, Any]:
    """Forget subjects; without any, finish the erasure that was cut off."""
    with closing(open_ledger(config.ledger_url)) as ledger, _bar(console) as bar:
        place = _place(config, ledger, bar)
        eraser = Eraser(place, lambda: read_clock(ledger, config, datetime.now(UTC)).now)
        done = eraser.erase(subjects) if subjects else eraser.resume()
    if done is None:
        console.print("nothing to resume: every erasure that was begun is finished")
        return {"model": config.name, "resumed": False}
    _tell(done, console)
    return {**done.receipt.model_dump(mode="json"), "repeated": done.repeated}


def check(config: Config, receipt: str, subjects: list[str], console: Console) -> dict[str, Any]:
    """Check a receipt again."""
    with closing(open_ledger(config.ledger_url)) as ledger, _bar(console) as bar:
        found = verify_receipt(_place(config, ledger, bar), receipt, subjects)
    for problem in found.problems:
        console.print(f"[red]{problem}")
    if found.verified:
        console.print(f"{receipt}: verified, nothing of them is left")
    return found.model_dump(mode="json")


def list_receipts(config: Config) -> dict[str, Any]:
    """List what was erased, oldest first."""
    with closing(open_ledger(config.ledger_url)) as ledger:
        erasures = read_erasures(ledger, config.name)
    receipts = [
        {
            "id": each.receipt,
            "began_at": each.began_at.isoformat(),
            "num_subjects": len(each.subjects),
            "num_found": each.record.num_found if each.record else None,
            "verified": each.record.verified if each.record else None,
        }
        for each in erasures
    ]
    return {"model": config.name, "receipts": receipts}


def _place(config: Config, ledger: Any, bar: Progress) -> Workplace:
    tasks = {part: bar.add_task(part, total=None) for part in ("erasure",)}

    def show(what: str, done: int, total: int) -> None:
        bar.update(tasks["erasure"], description=what, completed=done, total=total)

    tables = open_tables(config)
    return Workplace(config, ledger, tables, Tombstones(pseudonym_key(config)), progress=show)


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True)


def _tell(done: Erased, console: Console) -> None:
    if done.repeated:
        console.print(f"nothing more to do: {done.receipt.id} has forgotten them, nothing is left")
        return
    for line in tell_receipt(done.receipt):
        console.print(line, highlight=False, soft_wrap=True)
    if not done.receipt.num_found:
        console.print("no row was about them: check the spelling if that is a surprise")


def _read_input() -> str:
    if sys.stdin.isatty():
        typer.secho("one subject a line, then Ctrl-D:", err=True)
    return sys.stdin.read()


if __name__ == "__main__":
    typer.run(main)
