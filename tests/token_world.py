"""An identity provider for tests: real keys, a real key set in a file, tokens signed with them."""

import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.sections import TokensConfig

ISSUER, AUDIENCE = "https://id.example/", "flights"
ISSUED = 1_700_000_000
CONFIG = TokensConfig(issuer=ISSUER, audience=AUDIENCE, leeway_seconds=10)


class Provider:
    """Signs tokens with one key of each kind, and publishes the public halves."""

    def __init__(self, workspace: Path, suffix: str = "1") -> None:
        self.file = workspace / CONFIG.jwks
        self.keys: dict[str, Any] = {
            f"rsa{suffix}": rsa.generate_private_key(65537, 2048),
            f"ec{suffix}": ec.generate_private_key(ec.SECP256R1()),
            f"ed{suffix}": ed25519.Ed25519PrivateKey.generate(),
        }

    def public(self, key_id: str) -> dict[str, Any]:
        """Give the public half of a key as a JSON Web Key."""
        writer = {"rs": RSAAlgorithm, "ec": ECAlgorithm, "ed": OKPAlgorithm}[key_id[:2]]
        written = json.loads(writer.to_jwk(self.keys[key_id].public_key()))
        return {**written, "kid": key_id, "use": "sig"}

    def publish(self, *more: dict[str, Any]) -> None:
        """Write the key set as a provider would: aside, then renamed into place."""
        self.write(json.dumps({"keys": [*map(self.public, self.keys), *more]}))

    def write(self, content: str) -> None:
        """Write any content where the key set is looked for."""
        self.file.parent.mkdir(exist_ok=True)
        aside = self.file.with_suffix(".new")
        aside.write_text(content)
        aside.chmod(0o644)
        aside.replace(self.file)

    def token(self, key_id: str = "ec1", **claims: Any) -> str:
        """Sign a token that is good for an hour; a claim of None is left out."""
        algorithm = {"rs": "RS256", "ec": "ES256", "ed": "EdDSA"}[key_id[:2]]
        given = standard() | claims
        left = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(left, self.keys[key_id], algorithm, headers={"kid": key_id})


def standard() -> dict[str, Any]:
    """The claims of a good token."""
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "shop-backend",
        "iat": ISSUED,
        "exp": ISSUED + 3600,
        "roles": ["predict", "label"],
    }
