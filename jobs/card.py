"""Write the model card of a version: what it is for, how well it does, what it was made from."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from app.config import Config, load_config
from app.console.model_card import write_cards
from app.contracts.records import ModelVersion, Roles
from app.governance.model_card import ModelCard, Role, make_card
from app.ledger.database import Ledger, open_ledger
from app.model.bundle import ModelBundle
from app.monitoring.versions import gated_evaluation
from app.registry.artifacts import Artifacts
from app.registry.choosing import choose_version
from app.registry.store import read_roles
from app.training.plans import run_folder
from app.training.reporting import find_report
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile,
    version: Annotated[
        str | None,
        typer.Option(help="Beginning of a digest; default: the champion, else the latest."),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Write the card as a page and as Markdown below reports/cards; print where."""
    with user_errors():
        settings = load_config(config, set_ or [])
        with closing(open_ledger(settings.ledger_url)) as ledger:
            chosen = choose_version(ledger, settings.name, version, or_latest=True)
            report(run(settings, ledger, chosen, config))


def run(config: Config, ledger: Ledger, version: ModelVersion, file: Path) -> dict[str, object]:
    """Write the card of a registered version; give its paths and whether a report was found."""
    card = read_card(config, ledger, version, file)
    page, text = write_cards(card, config.cards_path)
    return {
        "model": card.model,
        "version": card.digest,
        "run": card.run,
        "role": card.role,
        "reported": card.report is not None,
        "gated": card.gate is not None,
        "page": str(page),
        "markdown": str(text),
    }


def read_card(config: Config, ledger: Ledger, version: ModelVersion, file: Path) -> ModelCard:
    """Bring together what ledger, artifacts and the run's folder hold of a version."""
    bundle = ModelBundle.load(Artifacts(config.artifacts_path).path(version.digest))
    return make_card(
        config,
        version,
        bundle.contract,
        bundle.card,
        config_file=str(file),
        role=role_of(version.digest, read_roles(ledger, config.name)),
        report=find_report(run_folder(config, version.run)),
        gate=gated_evaluation(ledger, version),
    )


def role_of(digest: str, roles: Roles) -> Role:
    """Name the part that a version plays now."""
    if digest == roles.champion:
        return "champion"
    if digest == roles.challenger:
        return "challenger"
    if digest == roles.shadow:
        return "shadow"
    return "previous" if digest == roles.previous else "none"


if __name__ == "__main__":
    typer.run(main)
