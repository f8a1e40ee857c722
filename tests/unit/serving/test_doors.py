"""Who gets in: nobody without a key, nobody without the role, and health for everybody."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.serving.api import build_api
from app.serving.entrances import ENTRANCES, NOBODY_ASKED
from tests.serving_world import make_rows
from tests.unit.serving.conftest import World

NOW = datetime.now(UTC)
PREDICT, LABELS, METADATA = (f"/v1/flights/{verb}" for verb in ("predict", "labels", "metadata"))


@pytest.fixture
def stranger(world: World) -> TestClient:
    """A client that sends no key."""
    return TestClient(build_api(world.replica), raise_server_exceptions=False)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def rows_of(world: World) -> dict[str, Any]:
    return {"rows": make_rows(world.config.contract, 2)}


def test_without_a_key_everything_but_health_is_closed(world: World, stranger: TestClient) -> None:
    assert stranger.get("/healthz").status_code == 200
    assert stranger.get("/readyz").status_code == 200
    paths = ["/", "/docs", "/openapi.json", "/nowhere", "/healthz/", "/v1/boats/metadata", METADATA]
    answers = [stranger.get(path) for path in paths]
    answers += [stranger.post(PREDICT, json=rows_of(world)), stranger.post(LABELS, content=b"no")]

    assert [answer.status_code for answer in answers] == [401] * len(answers)
    for answer in answers:
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert set(answer.json()["error"]) == {"where", "got", "change"}
    assert world.logged("predictions").num_rows == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_where_nobody_is_asked_for_a_key_other_methods_are_405_without_one(
    stranger: TestClient, path: str
) -> None:
    answer = stranger.post(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert stranger.post(f"{path}/").status_code == 401


def test_a_key_opens_in_either_header_and_a_wrong_one_in_none(
    world: World, stranger: TestClient
) -> None:
    key = world.keyring.create("shop", ["predict"], NOW).get_secret_value()
    good = [bearer(key), {"x-api-key": key}, {"authorization": f"bearer  {key}"}]
    good.append({"x-api-key": key, **bearer(key)})
    wrong = [
        {"x-api-key": key[:-1] + ("A" if key[-1] != "A" else "B")},
        {"Authorization": key},
        {"Authorization": f"Basic {key}"},
        {"x-api-key": key, **bearer("msk_" + "A" * 43)},
        {"x-api-key": "é" * 47},
    ]

    answers = [stranger.post(PREDICT, json=rows_of(world), headers=header) for header in good]
    refused = [
        stranger.post(PREDICT, json=rows_of(world), headers={k: v.encode() for k, v in h.items()})
        for h in wrong
    ]

    assert [answer.status_code for answer in answers] == [200] * len(good)
    assert [answer.status_code for answer in refused] == [401] * len(wrong)
    assert not any(key in answer.text for answer in refused)


@pytest.mark.parametrize(
    ("roles", "statuses"),
    [
        (["predict"], {PREDICT: 200, LABELS: 403, METADATA: 200}),
        (["label"], {PREDICT: 403, LABELS: 200, METADATA: 200}),
        (["audit"], {PREDICT: 403, LABELS: 403, METADATA: 200}),
        (["train"], {PREDICT: 403, LABELS: 403, METADATA: 403}),
    ],
)
def test_each_role_opens_its_own_paths(
    world: World, stranger: TestClient, roles: list[Any], statuses: dict[str, int]
) -> None:
    key = world.keyring.create("one", roles, NOW).get_secret_value()
    bodies = {PREDICT: rows_of(world), LABELS: {"labels": [{"row_id": "row-0", "label": 1}]}}

    answers = {path: stranger.post(path, json=b, headers=bearer(key)) for path, b in bodies.items()}
    answers[METADATA] = stranger.get(METADATA, headers=bearer(key))

    assert {path: answer.status_code for path, answer in answers.items()} == statuses
    for answer in answers.values():
        if answer.status_code == 403:
            assert f"one with {roles[0]}" in answer.json()["error"]["got"]


def test_a_revoked_and_an_expired_key_open_nothing_more(world: World, stranger: TestClient) -> None:
    key = world.keyring.create("shop", ["predict"], NOW).get_secret_value()
    brief = world.keyring.create("brief", ["audit"], NOW, NOW + timedelta(days=1))
    assert stranger.get(METADATA, headers=bearer(key)).status_code == 200
    assert stranger.get(METADATA, headers=bearer(brief.get_secret_value())).status_code == 200

    world.keyring.revoke("shop", NOW)
    old = world.keyring.create("old", ["audit"], NOW - timedelta(days=2), NOW - timedelta(days=1))

    assert stranger.get(METADATA, headers=bearer(key)).status_code == 401
    answer = stranger.get(METADATA, headers=bearer(old.get_secret_value()))
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["got"]


def test_keys_that_cannot_be_checked_open_nothing(world: World, stranger: TestClient) -> None:
    key = world.keyring.create("shop", ["predict"], NOW).get_secret_value()
    world.keyring.file.write_text("no keys")

    answer = stranger.get(METADATA, headers=bearer(key))

    assert answer.status_code == 503
    assert str(world.config.workspace) not in answer.text
    assert stranger.get("/healthz").status_code == 200


def test_openapi_says_how_a_key_is_sent(world: World) -> None:
    document = world.client.get("/openapi.json").json()

    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    methods = [(path, m) for path, ms in document["paths"].items() for m in ms.values()]
    assert {path for path, method in methods if "security" not in method} == {
        path for (_, path), roles in ENTRANCES.items() if roles == NOBODY_ASKED
    }


def test_an_endpoint_that_asks_nobody_says_so_in_its_configuration(world: World) -> None:
    config = world.config
    serving = config.serving.model_copy(update={"authentication": "none"})
    opened = config.model_copy(update={"serving": serving})
    world.replica.predictor = replace(world.replica.predictor, config=opened)
    client = TestClient(build_api(world.replica))

    assert client.post(PREDICT, json=rows_of(world)).status_code == 200
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]
