"""Let in who shows a key or a token, before anything of a request is read; keep all others out.

Knows ASGI, credentials, entrances and budgets; knows nothing of models. Whatever is not listed as
open is closed, paths that do not exist too: a stranger learns nothing from trying them.
"""

from collections.abc import Callable, Iterable
from functools import partial

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.config import Config
from app.security.access import AccessDenied, KeyRefused, Keyring, Principal
from app.security.budgets import Budgets, BudgetSpent
from app.security.tokens import START, Tokens
from app.serving.entrances import Entrance, Entrances, Roles
from app.serving.messages import Refused

HINT = "send Authorization: Bearer msk_…, or x-api-key; python -m jobs.keys create makes a key"
# No key and no token that is read is longer; what is, is not even hashed.
MAX_CREDENTIAL_BYTES = 8192


class Gate:
    """Says who asks and whether they may: plain calls on raw headers, a few microseconds each."""

    def __init__(self, keyring: Keyring, tokens: Tokens | None, budgets: Budgets) -> None:
        """Take what opens; `tokens` is None where none are taken."""
        self._keyring = keyring
        self._tokens = tokens
        self._budgets = budgets

    def admit(self, headers: Iterable[tuple[bytes, bytes]], now: float) -> Principal:
        """Say who sends a request with these headers, and count it against their rate.

        `headers` are those of an ASGI scope, names in lower case; `now` is seconds since 1970.
        Raises Refused: 401 for no credential or one that opens nothing, 429 when their rate is
        used up, 503 when credentials cannot be checked.
        """
        credential = credential_in(headers)
        try:
            if self._tokens is not None and credential.startswith(START):
                principal = self._tokens.admit(credential, now)
            else:
                principal = self._keyring.admit(credential, now)
        except AccessDenied as denial:
            raise Refused(401, "credential", str(denial), HINT) from None
        except KeyRefused as problem:
            # Closed when in doubt; the cause names a path of the server, which is for its log.
            got = "keys cannot be checked now"
            raise Refused(503, "server", got, "see the server's log; try again") from problem
        try:
            self._budgets.admit(principal, now)
        except BudgetSpent as spent:
            raise _too_much("requests", spent) from None
        return principal

    def charge(self, principal: Principal, num_rows: int, now: float) -> None:
        """Count rows to predict or explain against their day, before any work is done on them.

        Raises Refused: 429 when too few are left today, 413 for more than a whole day's share.
        """
        try:
            self._budgets.charge(principal, num_rows, now)
        except BudgetSpent as spent:
            raise _too_much("rows", spent) from None


def open_gate(config: Config, budgets: Budgets) -> Gate:
    """Make the gate of a model's endpoint: its workspace's keys and, if configured, tokens."""
    tokens = config.serving.tokens
    taken = Tokens(tokens, config.workspace) if tokens is not None else None
    return Gate(Keyring(config.workspace), taken, budgets)


class Doors:
    """An ASGI application that asks who is there before it passes a request on."""

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate,
        now: Callable[[], float],
        answer: Callable[[Refused], Response],
        entrances: Entrances | None = None,
    ) -> None:
        """Guard an application; `answer` writes a refusal as the endpoint writes its errors."""
        self._app = app
        self._gate = gate
        self._now = now
        self._answer = answer
        self._entrances = entrances or Entrances()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its principal, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._enter(scope)
        except Refused as refusal:
            await self._answer(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _enter(self, scope: Scope) -> None:
        """Raise Refused unless the request may pass; say in its state who sent it."""
        entrance = self._entrances.find(scope["path"])
        # What is no HTTP has no method and none of the roles' methods.
        method = scope.get("method", "")
        roles = entrance.roles(method) if entrance is not None else None
        if roles is not None and not roles:
            return
        # Whom nobody asks for a key is told the methods without one, as is documented.
        if method and entrance is not None and roles is None and entrance.is_open:
            raise _no_method(method, scope["path"], entrance)
        now = self._now()
        principal = self._gate.admit(scope["headers"], now)
        if entrance is None:
            got = f"{method} {scope['path'][:200]}"
            raise Refused(404, "path", got, "see /docs for the paths")
        if roles is None:
            raise _no_method(method, scope["path"], entrance)
        permit(principal, roles)
        state = scope.setdefault("state", {})
        state["principal"] = principal
        state["charge"] = partial(self._gate.charge, principal, now=now)


def credential_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Find the credential of a request. Raises Refused with 401 for none, or for two."""
    found = b""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            shown = token.strip() if scheme.lower() == b"bearer" else b""
        elif name == b"x-api-key":
            shown = value.strip()
        else:
            continue
        if found and shown and shown != found:
            raise Refused(401, "credential", "two different keys", "send one of them")
        found = found or shown
    if not found:
        raise Refused(401, "credential", "no key", HINT)
    if len(found) > MAX_CREDENTIAL_BYTES:
        raise Refused(401, "credential", "something longer than any key", HINT)
    return found


def permit(principal: Principal, roles: Roles) -> None:
    """Raise Refused with 403 unless who asks has one of the roles."""
    if not roles.isdisjoint(principal.roles):
        return
    held = ", ".join(principal.roles)
    needed = " or ".join(sorted(roles))
    raise Refused(
        403, "role", f"{principal.name} with {held}", f"use a key that has the role {needed}"
    )


def charge(scope: Scope, num_rows: int) -> None:
    """Count a request's rows against the day of who sent it; without doors nobody counts.

    Raises Refused, see Gate.charge.
    """
    count = scope.get("state", {}).get("charge")
    if count is not None:
        count(num_rows)


def _no_method(method: str, path: str, entrance: Entrance) -> Refused:
    got, change = f"{method} {path[:200]}", "see /docs for the methods"
    return Refused(405, "path", got, change, {"Allow": entrance.allowed})


def _too_much(where: str, spent: BudgetSpent) -> Refused:
    if spent.retry_after is None:
        return Refused(413, where, spent.got, spent.change)
    headers = {"Retry-After": str(spent.retry_after)}
    return Refused(429, where, spent.got, spent.change, headers)
