"""Tokens and budgets at the endpoint: who is let in, how often, and what a refusal says."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.contracts.access import Limits, Role
from app.sections import TokensConfig
from app.security.access import Keyring
from app.security.budgets import Budgets
from app.security.tokens import Tokens
from app.serving.api import build_api
from app.serving.doors import Gate, credential_in, permit
from app.serving.entrances import LABEL, PREDICT
from app.serving.messages import ErrorResponse, Refused
from tests.serving_world import make_rows
from tests.token_world import AUDIENCE, ISSUER, Provider
from tests.unit.serving.conftest import World

PREDICT_PATH, METADATA = "/v1/flights/predict", "/v1/flights/metadata"
TOKENS = TokensConfig(issuer=ISSUER, audience=AUDIENCE)
Change = Callable[..., TestClient]


@pytest.fixture
def with_serving(world: World) -> Change:
    """A function that serves the world's model with other dials; the client sends no key."""

    def change(**dials: Any) -> TestClient:
        serving = world.config.serving.model_copy(update=dials)
        config = world.config.model_copy(update={"serving": serving})
        world.replica.predictor = replace(world.replica.predictor, config=config)
        world.replica.budgets = Budgets(serving.limits)
        return TestClient(build_api(world.replica), raise_server_exceptions=False)

    return change


@pytest.fixture
def provider(world: World) -> Provider:
    provider = Provider(world.config.workspace)
    provider.publish()
    return provider


def fresh(provider: Provider, **claims: Any) -> dict[str, str]:
    now = int(time.time())
    token = provider.token(**{"iat": now, "exp": now + 600, **claims})
    return {"Authorization": f"Bearer {token}"}


def rows_of(world: World, number: int = 1) -> dict[str, Any]:
    return {"rows": make_rows(world.config.contract, number)}


def key(world: World, name: str, roles: tuple[Role, ...] = ("predict",), **limits: Any) -> Any:
    made = world.keyring.create(name, roles, datetime.now(UTC), limits=Limits(**limits))
    return {"x-api-key": made.get_secret_value()}


def test_a_token_opens_what_its_roles_open_and_keys_go_on(
    world: World, with_serving: Change, provider: Provider
) -> None:
    client = with_serving(tokens=TOKENS)

    good = client.post(PREDICT_PATH, json=rows_of(world), headers=fresh(provider))
    reader = fresh(provider, roles=["audit"])
    wrong_role = client.post(PREDICT_PATH, json=rows_of(world), headers=reader)
    read = client.get(METADATA, headers=reader)
    expired = client.get(METADATA, headers=fresh(provider, exp=int(time.time()) - 60))
    by_key = client.get(METADATA, headers=key(world, "shop"))

    statuses = [a.status_code for a in (good, wrong_role, read, expired, by_key)]
    assert statuses == [200, 403, 200, 401, 200]
    assert wrong_role.json()["error"]["got"] == "shop-backend with audit"
    assert expired.json()["error"]["got"] == "this token expired"
    assert expired.headers["www-authenticate"].startswith("Bearer")


def test_where_no_tokens_are_configured_one_is_refused_as_any_wrong_key(
    world: World, with_serving: Change, provider: Provider
) -> None:
    answer = with_serving().get(METADATA, headers=fresh(provider))

    assert answer.status_code == 401
    assert answer.json()["error"]["got"] == "this is no key; keys begin with msk_"


def test_a_broken_key_set_closes_to_tokens_and_not_to_keys(
    world: World, with_serving: Change, provider: Provider
) -> None:
    client = with_serving(tokens=TOKENS)
    provider.write("broken")

    answer = client.get(METADATA, headers=fresh(provider))

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert str(world.config.workspace) not in answer.text
    assert client.get(METADATA, headers=key(world, "shop")).status_code == 200


def test_openapi_says_whether_tokens_are_taken(world: World, with_serving: Change) -> None:
    def form(client: TestClient) -> str:
        client.headers["Authorization"] = world.client.headers["Authorization"]
        schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
        return str(schemes["bearer"]["bearerFormat"])

    assert [form(with_serving()), form(with_serving(tokens=TOKENS))] == ["msk_…", "msk_… or JWT"]


def test_a_caller_over_its_rate_is_told_429_and_when_to_come_again(
    world: World, with_serving: Change
) -> None:
    client = with_serving(limits=Limits(requests_per_second=0.1, burst=2))
    shop, desk = key(world, "shop"), key(world, "desk")
    answers = [client.get(METADATA, headers=shop) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 9 <= int(answers[2].headers["retry-after"]) <= 10
    body = ErrorResponse.model_validate(answers[2].json())
    assert body.error.got == "more than 0.1 requests a second"
    assert client.get(METADATA, headers=desk).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get(METADATA).status_code == 401


def test_requests_that_are_refused_count_too(world: World, with_serving: Change) -> None:
    client = with_serving(limits=Limits(requests_per_second=0.1, burst=3))
    auditor = key(world, "auditor", ("audit",))
    answers = [client.get("/nowhere", headers=auditor)]
    answers.append(client.post(PREDICT_PATH, json=rows_of(world), headers=auditor))
    answers.append(client.delete(METADATA, headers=auditor))
    answers.append(client.get(METADATA, headers=auditor))
    assert [answer.status_code for answer in answers] == [404, 403, 405, 429]


def test_rows_of_a_day_are_counted_before_any_work_is_done(
    world: World, with_serving: Change
) -> None:
    client = with_serving(limits=Limits(rows_per_day=10))
    shop, rich = key(world, "shop"), key(world, "rich", rows_per_day=11)

    def ask(number: int, who: dict[str, str]) -> Any:
        return client.post(PREDICT_PATH, json=rows_of(world, number), headers=who)

    answers = [ask(6, shop), ask(5, shop), ask(4, shop), ask(1, shop), ask(11, rich), ask(12, rich)]
    assert [answer.status_code for answer in answers] == [200, 429, 200, 429, 200, 413]
    left = 86400 - time.time() % 86400
    assert abs(int(answers[1].headers["retry-after"]) - left) < 30
    assert "send at most 4 rows now" in answers[1].json()["error"]["change"]
    assert "retry-after" not in answers[5].headers
    assert world.logged("predictions").num_rows == 6 + 4 + 11
    assert client.get(METADATA, headers=shop).status_code == 200


def test_a_key_made_with_limits_is_held_to_them_in_a_running_replica(
    world: World, with_serving: Change
) -> None:
    client = with_serving()
    slow = key(world, "slow", requests_per_second=0.1)
    answers = [client.get(METADATA, headers=slow) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


def test_every_route_that_asks_for_a_key_documents_429(world: World) -> None:
    document = world.client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for described in methods.values():
            answers = described["responses"]
            assert ("429" in answers) == ("security" in described), path
            for status in {"429", "503"} & answers.keys():
                assert answers[status]["headers"]["Retry-After"]["schema"] == {"type": "integer"}
                assert answers[status]["content"]["application/json"]["schema"]


def test_answers_are_rounded_and_the_log_is_not(world: World, with_serving: Change) -> None:
    client = with_serving(round_probability_digits=2)
    shop = key(world, "shop")

    answer = client.post(PREDICT_PATH, json=rows_of(world, 20), headers=shop).json()

    answered = [item["probability"] for item in answer["predictions"]]
    logged = world.logged("predictions")["probability"].to_pylist()
    assert answered == [round(value, 2) for value in logged]
    assert answered != logged


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer abc")], b"abc"),
        ([(b"authorization", b"bearer   abc ")], b"abc"),
        ([(b"x-api-key", b" abc")], b"abc"),
        ([(b"x-api-key", b"abc"), (b"authorization", b"Bearer abc")], b"abc"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"key")], b"key"),
    ],
)
def test_a_credential_is_found_in_either_header(
    headers: list[tuple[bytes, bytes]], found: bytes
) -> None:
    assert credential_in([(b"host", b"x"), *headers]) == found


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([], "no key"),
        ([(b"authorization", b"Bearer")], "no key"),
        ([(b"authorization", b"Basic abc")], "no key"),
        ([(b"x-api-key", b"  ")], "no key"),
        ([(b"x-api-key", b"a"), (b"authorization", b"Bearer b")], "two different keys"),
        ([(b"x-api-key", b"a"), (b"x-api-key", b"b")], "two different keys"),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], "two different"),
        ([(b"x-api-key", b"a" * 8193)], "longer than any key"),
    ],
)
def test_no_credential_or_two_or_one_without_end_is_refused(
    headers: list[tuple[bytes, bytes]], says: str
) -> None:
    with pytest.raises(Refused, match=says) as caught:
        credential_in(headers)
    assert caught.value.status == 401


def test_the_gate_is_plain_calls_on_raw_headers(world: World, provider: Provider) -> None:
    tokens = Tokens(TOKENS, world.config.workspace)
    gate = Gate(Keyring(world.config.workspace), tokens, Budgets(Limits()))
    header = [(k.lower().encode(), v.encode()) for k, v in fresh(provider).items()]

    who = gate.admit(header, time.time())

    permit(who, PREDICT)
    with pytest.raises(Refused, match="use a key that has the role label") as caught:
        permit(who.model_copy(update={"roles": ("predict",)}), LABEL)
    assert caught.value.status == 403
