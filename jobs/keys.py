"""Make, list and revoke the keys that open a model's endpoint."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from pydantic import ValidationError

from app.config import load_config
from app.contracts.access import Limits
from app.security.access import ROLES, KeyRefused, Keyring, Role
from app.security.jwks import JwksFile
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Name = Annotated[str, typer.Option(help="Who will send the key: a system, a team, a person.")]


@app.command()
def create(
    config: ConfigFile,
    name: Name,
    roles: Annotated[
        str, typer.Option(help=f"What it may do, of {', '.join(ROLES)}.")
    ] = "predict,label",
    days: Annotated[float | None, typer.Option(help="It expires after so many days.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second at most.")] = None,
    burst: Annotated[int | None, typer.Option(help="So many at once after a pause.")] = None,
    rows_per_day: Annotated[int | None, typer.Option(help="Rows a day (UTC) at most.")] = None,
    set_: Overrides = None,
) -> None:
    """Make a key and print it: this is the only time that it can be seen."""
    with user_errors():
        keyring = Keyring(load_config(config, set_ or []).workspace)
        now = datetime.now(UTC)
        expires = now + timedelta(days=days) if days is not None else None
        limits = read_limits(rate, burst, rows_per_day)
        key = keyring.create(name, read_roles(roles), now, expires, limits)
        typer.echo("keep this key now; only a hash of it is stored", err=True)
        report({"name": name, "key": key.get_secret_value(), "expires_at": expires})


@app.command("list")
def show(config: ConfigFile, set_: Overrides = None) -> None:
    """List every key that was made: names, roles and dates, never the key."""
    with user_errors():
        keys = Keyring(load_config(config, set_ or []).workspace).list()
        shown = [key.model_dump(mode="json", exclude={"digest"}) for key in keys]
        for key in shown:
            typer.echo(f"{key['name']}: {', '.join(key['roles'])}", err=True)
        report({"keys": shown})


@app.command()
def revoke(config: ConfigFile, name: Name, set_: Overrides = None) -> None:
    """Close a key: running replicas refuse it from their next request on."""
    with user_errors():
        keyring = Keyring(load_config(config, set_ or []).workspace)
        num_closed = keyring.revoke(name, datetime.now(UTC))
        if not num_closed:
            known = sorted({key.name for key in keyring.list()})
            raise KeyRefused(
                f"keys: no open key is called {name}; there are {', '.join(known) or 'none'}"
            )
        report({"name": name, "revoked": num_closed})


@app.command("tokens")
def check_tokens(config: ConfigFile, set_: Overrides = None) -> None:
    """Check the file of public keys that signed tokens (JWT) are checked with, and list them."""
    with user_errors():
        loaded = load_config(config, set_ or [])
        tokens = loaded.serving.tokens
        if tokens is None:
            raise KeyRefused(
                "serving.tokens: is not configured, no token opens anything; name its issuer and "
                "audience"
            )
        file = loaded.workspace / tokens.jwks
        keys = JwksFile(file, tokens.algorithms).current().by_id
        shown = {key_id: key.algorithm_name for key_id, key in keys.items()}
        for key_id, algorithm in shown.items():
            typer.echo(f"{key_id}: {algorithm}", err=True)
        report({"file": str(file), "keys": shown})


def read_limits(rate: float | None, burst: int | None, rows_per_day: int | None) -> Limits:
    """Read a key's own limits. Raises KeyRefused for one out of bounds, or a burst of no rate."""
    if burst is not None and rate is None:
        raise KeyRefused(f"burst: {burst} needs a rate of the key's own; give --rate too")
    try:
        return Limits(requests_per_second=rate, burst=burst, rows_per_day=rows_per_day)
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise KeyRefused(f"limits: {told}") from None


def read_roles(text: str) -> tuple[Role, ...]:
    """Read roles from a list with commas. Raises KeyRefused for one that does not exist.

    >>> read_roles("label, predict")
    ('predict', 'label')
    """
    asked = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(asked - set(ROLES))
    if unknown:
        known = ", ".join(ROLES)
        raise KeyRefused(f"roles: no role is called {', '.join(unknown)}; take of {known}")
    return tuple(role for role in ROLES if role in asked)


if __name__ == "__main__":
    app()
