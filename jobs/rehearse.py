"""Compare retraining policies on production rows: train what is missing, score every row."""

import sys
from typing import Annotated

import torch
import typer
from rich.console import Console

from app.config import Config, load_config
from app.contracts.targets import require_binary
from app.data.tables import open_tables
from app.ledger.database import open_ledger
from app.loop.comparators import Comparators, production_rows, write_board, write_scores
from app.loop.rehearsal import (
    Policy,
    Scoreboard,
    choose_months,
    chosen_policies,
    compare,
    score_rows,
    split_months,
)
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.registry.store import roles_history
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile,
    set_: Overrides = None,
    months: Annotated[
        str | None, typer.Option(help="Months such as 4-12; default: the whole replay.")
    ] = None,
    policies: Annotated[str, typer.Option(help="Which policies.")] = "static,last3,all",
) -> None:
    """Fit the comparators that are missing, score every production row, write the scoreboard."""
    with user_errors():
        settings = load_config(config, set_ or [])
        require_binary(settings.contract, "the rehearsal")
        report(run(settings, chosen_policies(policies), months))


def run(config: Config, policies: tuple[Policy, ...], months: str | None = None) -> Scoreboard:
    """Score production by each policy's models; leave rows and scoreboard in the workspace."""
    console = Console(file=sys.stderr, log_path=False)
    torch.set_num_threads(config.training.threads_per_worker)
    tables = open_tables(config)
    every = split_months(config.replay.start, config.replay.end)
    periods = choose_months(every, months) if months else every
    start, until = periods[0].start, periods[-1].end
    rows = production_rows(config, tables, start, until)
    span = f"{periods[0].month} to {periods[-1].month}"
    console.print(f"{', '.join(policies)} on {rows.num_rows:,} rows, {span}")
    comparators = Comparators(config, tables, first_champion(config), every[0], console.log)
    scores = score_rows(rows, config.contract.id, periods, policies, comparators.model)
    write_scores(config, scores)
    board = compare(config.name, config.contract.label, scores, (start.date(), until.date()))
    write_board(config, board)
    return board


def first_champion(config: Config) -> ModelBundle | None:
    """Load the loop's first champion; None where no loop has run."""
    ledger = open_ledger(config.ledger_url)
    try:
        history = roles_history(ledger, config.name)
    finally:
        ledger.close()
    digest = next((entry.roles.champion for entry in history if entry.roles.champion), None)
    if digest is None:
        return None
    return ModelBundle.load(Artifacts(config.artifacts_path).path(digest), digest)


if __name__ == "__main__":
    typer.run(main)
