"""Let in who shows a key, before anything of a request is read; keep everybody else out.

Knows ASGI, keys and roles; knows nothing of models. Whatever is not named open is closed, paths
that do not exist too: a stranger learns nothing from trying them.
"""

from collections.abc import Callable
from datetime import datetime

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.security.access import AccessDenied, KeyRefused, Keyring, Principal, Role
from app.serving.messages import Refused

OPEN = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
HINT = "send Authorization: Bearer msk_…, or x-api-key; python -m jobs.keys create makes a key"
CHALLENGE = 'Bearer realm="mainspring"'


class Doors:
    """An ASGI application that asks for a key before it passes a request on."""

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring,
        now: Callable[[], datetime],
        answer: Callable[[Refused], Response],
    ) -> None:
        """Guard an application; `answer` writes a refusal as the endpoint writes its errors."""
        self._app = app
        self._keyring = keyring
        self._now = now
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its principal, or refuse it with 401."""
        if scope["type"] == "lifespan" or scope.get("path") in OPEN:
            await self._app(scope, receive, send)
            return
        try:
            principal = self._enter(Headers(scope=scope))
        except Refused as refusal:
            response = self._answer(refusal)
            if refusal.status == 401:
                response.headers["WWW-Authenticate"] = CHALLENGE
            await response(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    def _enter(self, headers: Headers) -> Principal:
        credential = credential_in(headers)
        try:
            return self._keyring.authenticate(credential, self._now())
        except AccessDenied as denial:
            raise Refused(401, "credential", str(denial), HINT) from None
        except KeyRefused as problem:
            # Closed when in doubt; the cause names a path of the server, which is for its log.
            got = "keys cannot be checked now"
            raise Refused(503, "server", got, "see the server's log; try again") from problem


def credential_in(headers: Headers) -> str:
    """Find the credential of a request. Raises Refused with 401 for none, or for two."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    header = headers.get("x-api-key", "").strip()
    if not bearer and not header:
        raise Refused(401, "credential", "no key", HINT)
    if bearer and header and bearer != header:
        raise Refused(401, "credential", "two different keys", "send one of them")
    return bearer or header


def demand(request: Request, *roles: Role) -> None:
    """Raise Refused with 403 unless who asks has one of the roles; without doors all may."""
    principal: Principal | None = request.scope.get("state", {}).get("principal")
    if principal is None or any(principal.may(role) for role in roles):
        return
    held = ", ".join(principal.roles)
    needed = " or ".join(roles)
    raise Refused(
        403, "role", f"{principal.name} with {held}", f"use a key that has the role {needed}"
    )
