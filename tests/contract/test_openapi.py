"""OpenAPI is true: schemathesis asks every operation, well and badly, as everybody who may come.

A replica runs in a process of its own, behind a real socket. By default everybody who has all roles
and who has no key come, with few examples; `make test-contract` lets all come, with many.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from app.security.access import ROLES, Keyring
from tests.replica_process import ROOT, prepare_flights, run_replica
from tests.token_world import AUDIENCE, ISSUER, Provider

pytestmark = [pytest.mark.contract, pytest.mark.timeout(3600)]
EXAMPLES = os.environ.get("CONTRACT_EXAMPLES", "4")
SEED = os.environ.get("CONTRACT_SEED", "1")
NOBODY = "nobody"
OVERRIDES = (
    # Small, so that more rows than are allowed are soon written.
    "serving.max_rows_per_request=30",
    "serving.max_body_mb=1",
    f"serving.tokens={{issuer: '{ISSUER}', audience: {AUDIENCE}}}",
    "serving.limits={requests_per_second: 1000000}",
)
FEW = ("everything", NOBODY)
MANY = (*ROLES, "token", "expired token", "expired key", "revoked key", "wrong key")


@dataclass(frozen=True)
class Served:
    """A replica that answers, the document that it publishes, and what its visitors show."""

    url: str
    document: Path
    credentials: dict[str, str]

    def ask(self, visitor: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Let schemathesis ask everything as a visitor."""
        shown = [] if visitor == NOBODY else ["-H", f"Authorization: {self.credentials[visitor]}"]
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(self.document)]
        command += ["--url", self.url, "--checks", "all", "--mode", "all", "--seed", SEED]
        command += ["--max-examples", EXAMPLES, "--continue-on-failure", "--no-color", *shown]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.contract.hooks", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*command, *arguments],
            cwd=self.document.parent,
            env=os.environ | hooks,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, free_port_of_module: int) -> Iterator[Served]:
    """Run the replica and write down what it publishes."""
    folder = tmp_path_factory.mktemp("contract")
    config, file = prepare_flights(folder, *OVERRIDES)
    credentials = _credentials(config.workspace)
    url = f"http://127.0.0.1:{free_port_of_module}"
    with run_replica(file, free_port_of_module, folder / "replica.log"):
        headers = {"Authorization": credentials["everything"]}
        answer = httpx.get(f"{url}/openapi.json", headers=headers)
        assert answer.status_code == 200, answer.text
        document = folder / "openapi.json"
        document.write_text(json.dumps(answer.json()))
        yield Served(url, document, credentials)


def _credentials(workspace: Path) -> dict[str, str]:
    """Make a key for each role, one for all of them, and what opens nothing."""
    now, keyring, provider = datetime.now(UTC), Keyring(workspace), Provider(workspace)
    provider.publish()
    long_ago, yesterday = now - timedelta(days=2), now - timedelta(days=1)
    made = {role: keyring.create(role, [role], now) for role in ROLES}
    made["everything"] = keyring.create("everything", ROLES, now)
    made["expired key"] = keyring.create("expired", ROLES, long_ago, yesterday)
    made["revoked key"] = keyring.create("revoked", ROLES, now)
    keyring.revoke("revoked", now)
    shown = {name: key.get_secret_value() for name, key in made.items()}
    seconds = int(time.time())
    shown["token"] = provider.token(iat=seconds, exp=seconds + 3600)
    shown["expired token"] = provider.token(iat=seconds - 7200, exp=seconds - 3600)
    shown["wrong key"] = "msk_" + "A" * 43
    return {name: f"Bearer {credential}" for name, credential in shown.items()}


@pytest.mark.parametrize(
    "visitor", [*FEW, *(pytest.param(one, marks=pytest.mark.slow) for one in MANY)]
)
def test_whoever_asks_is_answered_as_openapi_says(served: Served, visitor: str) -> None:
    told = served.ask(visitor)

    assert told.returncode == 0, told.stdout[-20000:] + told.stderr[-3000:]
    assert "Tested: 16" in told.stdout, told.stdout
    assert "❌" not in told.stdout
    print(told.stdout[told.stdout.index("= SUMMARY =") :])


def test_a_document_that_promises_what_is_not_so_is_found_out(
    served: Served, tmp_path: Path
) -> None:
    document = json.loads(served.document.read_text())
    del document["paths"]["/v1/{model}/predictions/{prediction_id}"]["get"]["responses"]["404"]
    document["components"]["schemas"]["Metadata"]["required"].append("colour")
    altered = Served(served.url, tmp_path / "altered.json", served.credentials)
    altered.document.write_text(json.dumps(document))
    reading = ["/v1/{model}/predictions/{prediction_id}", "/v1/{model}/metadata"]

    told = altered.ask("everything", *[f"--include-path={path}" for path in reading])

    assert told.returncode == 1
    assert "Undocumented status code" in told.stdout, told.stdout
    assert '"colour" is a required property' in told.stdout
