"""Propose a configuration for a table: from a CSV or Parquet file to a model's YAML file."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
import yaml
from pydantic import ValidationError
from rich.console import Console

from app.config import Config, ConfigError, load_config
from app.console.proposals import proposal_lines, proposal_table
from app.contracts.targets import Task
from app.data.proposal import Proposal, propose
from app.data.proposal_yaml import write_yaml
from app.data.survey import survey
from app.data.trial import Trial, example_row, try_out
from app.security.access import Keyring
from jobs.outcome import curl_command, report, user_errors

FIRST_KEY = "first"


def main(
    from_: Annotated[Path, typer.Option("--from", help="A CSV or Parquet file with the rows.")],
    label: Annotated[str, typer.Option(help="The column with the outcome to predict.")],
    positive: Annotated[
        list[str] | None, typer.Option(help="Value that counts as 1; may be repeated.")
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(help="What is predicted; default: guessed, ranking only when asked for."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Ranking: the column whose rows of one value make a list.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="The file to write; default: configs/NAME.yaml.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name; default: from the file.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over an earlier proposal.")] = False,
    key: Annotated[bool, typer.Option(help="Make a first key for the endpoint.")] = True,
) -> None:
    """Look through a table, explain what each column seems to be, and write a working YAML file."""
    console = Console(stderr=True)
    with user_errors():
        chosen = name or name_of(from_)
        file = into or Path("configs") / f"{chosen}.yaml"
        if file.exists() and not force:
            raise ConfigError(f"{file}: there is one already; add --force, or name another --into")
        proposal, text, trial = decide(from_, label, chosen, positive or [], task=task, group=group)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        config = load_config(file)
        console.print(proposal_table(proposal))
        for line in proposal_lines(proposal, trial, text.count("\n")):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        binary = config.contract.task == "binary"
        made = _first_key(config) if key and binary else ""
        curl = _curl(config, proposal) if binary else ""
        _tell_next(file, made, curl, console)
        report(_record(file, proposal, trial, text, made, curl))


def decide(
    file: Path,
    label: str,
    name: str,
    positive: list[str],
    *,
    task: Task | None = None,
    group: str | None = None,
) -> tuple[Proposal, str, Trial]:
    """Propose, try the proposal out on every row, and mend the one guess that a trial can."""
    surveyed = survey(file)
    found = propose(surveyed, label, name, positive, task=task, group=group)
    found = found.with_ids_from("content")
    text, trial = _tried(found)
    if trial.num_repeated and found.roles.id is None:
        # Equal rows are different cases here: their place tells them apart.
        found = found.with_ids_from("position")
        text, trial = _tried(found)
    return found, text, trial


def _tried(proposal: Proposal) -> tuple[str, Trial]:
    text = write_yaml(proposal, f".mainspring/{proposal.name}")
    try:
        config = Config.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise ConfigError(
            f"{proposal.survey.path}: the proposal does not hold together ({error}); name the "
            "columns differently, or write the file by hand after configs/flights.yaml"
        ) from error
    return text, try_out(config, proposal.survey, datetime.now(UTC))


def name_of(file: Path) -> str:
    """Name a model after its file.

    >>> name_of(Path("data/2024 Orders_v2.csv"))
    'm-2024-orders-v2'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "model"
    return (plain if plain[0].isalpha() else f"m-{plain}")[:40].rstrip("-")


def _first_key(config: Config) -> str:
    keyring, now = Keyring(config.workspace), datetime.now(UTC)
    keyring.revoke(FIRST_KEY, now)
    return keyring.create(FIRST_KEY, ("predict", "label"), now).get_secret_value()


def _curl(config: Config, proposal: Proposal) -> str:
    row = example_row(config, proposal.survey, datetime.now(UTC))
    body = orjson.dumps({"rows": [row]}).decode()
    url = f"http://{config.serving.host}:{config.serving.port}/v1/{config.name}/predict"
    return curl_command(url, body, "$MAINSPRING_KEY")


def _tell_next(file: Path, key: str, curl: str, console: Console) -> None:
    lines = ["", "[bold]Next:[/] read the file, every guess has its reason beside it; then"]
    console.print("\n".join(lines))
    commands = [f"python -m jobs.start --config {file}"]
    if not curl:
        # Serving and the loop are for binary models.
        commands = [f"python -m jobs.{job} --config {file}" for job in ("ingest", "train")]
        commands.append(f"python -m jobs.score --config {file} --rows NEW_ROWS.csv --into scores")
    elif key:
        commands.append(f"export MAINSPRING_KEY={key}   # shown this once; only its hash is stored")
    else:
        commands.append(f"python -m jobs.keys create --config {file} --name me")
    for command in filter(None, (*commands, curl)):
        console.print(command, soft_wrap=True, highlight=False, markup=False)


def _record(
    file: Path, proposal: Proposal, trial: Trial, text: str, key: str, curl: str
) -> dict[str, object]:
    uses = {guess.name: guess.use for guess in proposal.guesses}
    return {
        "config": str(file),
        "model": proposal.name,
        "label": proposal.outcome.name,
        **proposal.target,
        "positive": list(proposal.outcome.positive),
        "lines": text.count("\n"),
        "rows": trial.num_in,
        "accepted": trial.num_accepted,
        "columns": uses,
        "suspects": [name for name, use in uses.items() if use == "suspect"],
        "key": key or None,
        "curl": curl or None,
    }


if __name__ == "__main__":
    typer.run(main)
