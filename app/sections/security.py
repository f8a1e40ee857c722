"""How what is kept is protected, and whose word opens the endpoint.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from app.contracts.access import ROLES, Role
from app.contracts.rows import Frozen


class EncryptionConfig(Frozen):
    """What is sealed on disk; keys are never here, see app/security/keyring.py."""

    at_rest: bool = Field(
        True,
        description="Seal personal and quasi columns, and what quotes them, in new data files; and "
        "whole: staged files, captured rows, the online store.",
    )


class TokensConfig(Frozen):
    """Signed tokens (JWT) of an identity provider, taken beside the keys of jobs.keys."""

    issuer: str = Field(min_length=1, max_length=500, description="What `iss` must be, exactly.")
    audience: str = Field(min_length=1, max_length=500, description="What `aud` must be or hold.")
    jwks: Path = Field(
        Path("keys/jwks.json"),
        description="File with the provider's public keys, a JSON Web Key Set; a relative path is "
        "taken from the workspace. It is read again when it changes, never fetched.",
    )
    # Asymmetric ones only: with a shared secret whoever can check a token can also make one.
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1
    )
    roles_claim: tuple[str, ...] = Field(
        ("roles",),
        min_length=1,
        max_length=5,
        description="The claim that holds roles; several names lead into nested claims. Its value "
        "is a list of words, or words with spaces between them.",
    )
    roles: dict[str, tuple[Role, ...]] = Field(
        {role: (role,) for role in ROLES},
        description="What each word of that claim opens; other words open nothing.",
    )
    leeway_seconds: float = Field(
        30.0, ge=0, le=300, description="How far the provider's clock and ours may be apart."
    )
    max_lifetime_seconds: float = Field(
        86400.0, gt=0, le=31 * 86400, description="A token that is good for longer is refused."
    )

    @model_validator(mode="after")
    def _some_word_opens_something(self) -> Self:
        if not any(self.roles.values()):
            raise ValueError("roles: no word opens anything; map one to a role, e.g. scorer")
        return self
