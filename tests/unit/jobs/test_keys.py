"""Keys with limits of their own, and the check of a provider's key set."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.config import Config, show_config
from app.contracts.access import Limits
from app.sections import TokensConfig
from app.security.access import Keyring
from jobs.keys import app
from tests.token_world import AUDIENCE, ISSUER, Provider


@pytest.fixture
def file(flights: Config, tmp_path: Path) -> Path:
    tokens = TokensConfig(issuer=ISSUER, audience=AUDIENCE)
    serving = flights.serving.model_copy(update={"tokens": tokens})
    file = tmp_path / "flights.yaml"
    file.write_text(show_config(flights.model_copy(update={"serving": serving})))
    return file


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def record(said: str) -> dict[str, object]:
    document: dict[str, object] = json.loads(said.splitlines()[-1])
    return document


def test_a_key_is_made_with_limits_and_listed_with_them(flights: Config, file: Path) -> None:
    words = ["--rate", "50", "--rows-per-day", "100000"]
    code, said = run("create", "--config", str(file), "--name", "shop", *words)
    assert code == 0, said
    key = str(record(said)["key"])
    run("create", "--config", str(file), "--name", "free")

    who = Keyring(flights.workspace).authenticate(key, datetime.now(UTC))
    assert who.limits == Limits(requests_per_second=50, rows_per_day=100_000)
    _, said = run("list", "--config", str(file))
    shop, free = record(said)["keys"]  # type: ignore[misc]
    assert shop["limits"] == {"requests_per_second": 50.0, "rows_per_day": 100_000}
    assert "limits" not in free


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rate", "0"], "requests_per_second: Input should be greater"),
        (["--rows-per-day", "0"], "rows_per_day: Input should be greater"),
        (["--burst", "5"], "give --rate too"),
    ],
)
def test_a_limit_that_is_none_makes_no_key(
    flights: Config, file: Path, words: list[str], says: str
) -> None:
    code, said = run("create", "--config", str(file), "--name", "shop", *words)
    assert code == 2
    assert says in " ".join(said.split())
    assert Keyring(flights.workspace).list() == ()


def test_a_key_set_is_checked_before_a_token_needs_it(flights: Config, file: Path) -> None:
    code, said = run("tokens", "--config", str(file))
    assert code == 2
    assert "save the provider's public keys there" in " ".join(said.split())

    Provider(flights.workspace).publish()
    code, said = run("tokens", "--config", str(file))
    assert code == 0, said
    assert record(said)["keys"] == {"rsa1": "RS256", "ec1": "ES256", "ed1": "EdDSA"}
    code, said = run("tokens", "--config", str(file), "--set", "serving.tokens=null")
    assert code == 2
    assert "no token opens anything" in " ".join(said.split())
