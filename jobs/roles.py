"""Say which versions answer beside the champion: a challenger's share, a hold-out, a shadow."""

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from app.config import Config, load_config
from app.contracts.records import Roles
from app.contracts.shares import ONLY_CHAMPION, Ramp, Shares
from app.ledger.clock import read_clock
from app.ledger.database import Ledger, open_ledger
from app.loop.arranging import arrange
from app.loop.residency import await_replicas, follows, holds
from app.registry.choosing import choose_version
from app.registry.replicas import live_replicas
from app.registry.store import read_roles
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors

NOBODY = "none"


class Wanted(NamedTuple):
    """What was asked for; None where nothing was."""

    challenger: str | None = None
    shadow: str | None = None
    share: float | None = None
    over_minutes: float = 0.0
    holdout: float | None = None
    exploration: float | None = None

    @property
    def is_something(self) -> bool:
        """Whether anything is to be changed."""
        return self != Wanted(over_minutes=self.over_minutes)


def main(
    config: ConfigFile,
    challenger: Annotated[
        str | None,
        typer.Option(help=f"Beginning of the digest of who answers a share; {NOBODY} to end it."),
    ] = None,
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="The challenger's share of entities.")
    ] = None,
    over_minutes: Annotated[
        float, typer.Option(min=0, help="Reach the share in a straight line over so long.")
    ] = 0.0,
    holdout: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of entities kept the champion's.")
    ] = None,
    exploration: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of requests dealt to either by a coin."),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(help=f"Beginning of the digest of who scores unheard; {NOBODY} to end it."),
    ] = None,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for every replica to hold them.")
    ] = 60.0,
    set_: Overrides = None,
) -> None:
    """Change who answers beside the champion, and wait for the replicas; alone: show who does.

    The champion is the loop's to change. What was told is recorded as a decision.
    """
    wanted = Wanted(challenger, shadow, share, over_minutes, holdout, exploration)
    with user_errors():
        settings = load_config(config, set_ or [])
        with closing(open_ledger(settings.ledger_url)) as ledger:
            now = read_clock(ledger, settings, datetime.now(UTC)).now
            problems = change(settings, ledger, wanted, now, wait_seconds)
            roles = read_roles(ledger, settings.name)
            show(settings, ledger, roles, now)
    report({"roles": roles.model_dump(mode="json"), "problems": problems})
    if problems:
        raise typer.Exit(1)


def change(
    config: Config, ledger: Ledger, wanted: Wanted, now: datetime, wait_seconds: float
) -> list[str]:
    """Change what was asked for; returns what some replica still lacks when the wait is over."""
    if not wanted.is_something:
        return []
    before = read_roles(ledger, config.name)
    new = arranged(ledger, before, wanted, now)
    told = [
        f"challenger {(new.challenger or NOBODY)[:12]}, shadow {(new.shadow or NOBODY)[:12]}",
        new.shares.told(now),
    ]
    roles = arrange(ledger, new, tuple(told), now)
    named = [digest for digest in (roles.challenger, roles.shadow) if digest is not None]
    wishes = [holds(digest, roles.generation) for digest in named]
    typer.secho(f"generation {roles.generation} is written; waiting for replicas", err=True)
    problems: list[str] = []
    for wish in [*wishes, follows(roles.generation)]:
        problems += await_replicas(ledger, config.name, wish, wait_seconds, time.time)
    return list(dict.fromkeys(problems))


def arranged(ledger: Ledger, before: Roles, wanted: Wanted, now: datetime) -> Roles:
    """Give the roles as wanted; shares end with the challenger for whom they were meant.

    Raises VersionUnknown for who is not registered, ValueError for shares that do not fit.
    """
    parts = {"challenger": before.challenger, "shadow": before.shadow}
    for part, asked in (("challenger", wanted.challenger), ("shadow", wanted.shadow)):
        if asked is not None:
            known = None if asked == NOBODY else choose_version(ledger, before.model, asked)
            parts[part] = known.digest if known else None
    old = before.shares if parts["challenger"] == before.challenger else ONLY_CHAMPION
    share = old.challenger if wanted.share is None else wanted.share
    ramp = old.ramp if wanted.share is None else None
    if wanted.share is not None and wanted.over_minutes:
        ramp = Ramp(
            from_share=old.challenger_at(now), began_at=now, seconds=60 * wanted.over_minutes
        )
    shares = Shares(
        challenger=share,
        ramp=ramp,
        holdout=old.holdout if wanted.holdout is None else wanted.holdout,
        exploration=old.exploration if wanted.exploration is None else wanted.exploration,
    )
    return before.model_copy(update={**parts, "shares": shares})


def show(config: Config, ledger: Ledger, roles: Roles, now: datetime) -> None:
    """Draw who plays which part, and which live replicas hold whom."""
    replicas = live_replicas(ledger, config.name, time.time())
    table = Table(
        "part", "version", "resident at", title=f"{config.name}, generation {roles.generation}"
    )
    for part in ("champion", "previous", "challenger", "shadow"):
        digest = getattr(roles, part)
        there = sum(digest in each.resident for each in replicas)
        table.add_row(part, (digest or NOBODY)[:12], f"{there} of {len(replicas)} replicas")
    console = Console(stderr=True)
    console.print(table)
    console.print(roles.shares.told(now))
    for each in replicas:
        for digest, why in each.problems.items():
            console.print(f"{each.replica}: {digest[:12]} cannot be loaded: {why}")


if __name__ == "__main__":
    typer.run(main)
