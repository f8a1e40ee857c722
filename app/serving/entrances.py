"""Say which roles open each path of the endpoint: the one list of what may be entered at all.

Knows methods, paths and roles; knows nothing of keys or of what lies behind a path. A path that is
not here is closed to everybody, whatever else may answer it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from app.contracts.access import ROLES, Role

Roles = frozenset[Role]
# No key is asked for: who watches whether a process lives has none.
NOBODY_ASKED: Roles = frozenset()
ANY: Roles = frozenset(ROLES)
READERS: Roles = frozenset({"predict", "label", "audit"})
PREDICT: Roles = frozenset({"predict"})
LABEL: Roles = frozenset({"label"})
EXPLAIN: Roles = frozenset({"explain"})
# Whoever was answered may look the answer up, and whoever audits it.
RECEIPT: Roles = frozenset({"predict", "audit"})

ENTRANCES: Mapping[tuple[str, str], Roles] = {
    ("GET", "/healthz"): NOBODY_ASKED,
    ("GET", "/readyz"): NOBODY_ASKED,
    ("GET", "/docs"): ANY,
    ("GET", "/docs/oauth2-redirect"): ANY,
    ("GET", "/redoc"): ANY,
    ("GET", "/openapi.json"): ANY,
    ("GET", "/v1/{model}/metadata"): READERS,
    ("POST", "/v1/{model}/predict"): PREDICT,
    ("POST", "/v1/{model}/labels"): LABEL,
    ("POST", "/v1/{model}/explain"): EXPLAIN,
    ("GET", "/v1/{model}/predictions/{prediction_id}"): RECEIPT,
    ("GET", "/v2"): READERS,
    ("GET", "/v2/health/live"): NOBODY_ASKED,
    ("GET", "/v2/health/ready"): NOBODY_ASKED,
    ("GET", "/v2/models/{model}"): READERS,
    ("GET", "/v2/models/{model}/ready"): READERS,
    ("POST", "/v2/models/{model}/infer"): PREDICT,
    ("GET", "/v2/models/{model}/versions/{version}"): READERS,
    ("GET", "/v2/models/{model}/versions/{version}/ready"): READERS,
    ("POST", "/v2/models/{model}/versions/{version}/infer"): PREDICT,
}


@dataclass(frozen=True)
class Entrance:
    """What is known of a path: the roles that open each of its methods."""

    methods: Mapping[str, Roles]

    def roles(self, method: str) -> Roles | None:
        """Give the roles that open a method; None for one that the path does not take."""
        # What may be read may be asked for without its body.
        return self.methods.get("GET" if method == "HEAD" else method)

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for a key here."""
        return not any(self.methods.values())

    @property
    def allowed(self) -> str:
        """The methods, as the header Allow lists them."""
        return ", ".join(sorted(self.methods))


class Entrances:
    """Finds the entrance of a path: one look for most, a walk for one with an id or the like."""

    def __init__(
        self, table: Mapping[tuple[str, str], Roles] = ENTRANCES, model: str | None = None
    ) -> None:
        """Sort a table of methods and paths; a name in braces stands for any one segment.

        The paths of the model that is served are looked up rather than walked to.
        """
        by_path: dict[str, dict[str, Roles]] = {}
        for (method, path), roles in table.items():
            by_path.setdefault(path, {})[method] = roles
        self._plain: dict[str, Entrance] = {}
        self._named: dict[int, list[tuple[list[str], Entrance]]] = {}
        for path, methods in by_path.items():
            parts = path.split("/")
            if "{" in path:
                self._named.setdefault(len(parts), []).append((parts, Entrance(methods)))
            own = path if model is None else path.replace("{model}", model)
            if "{" not in own:
                self._plain[own] = Entrance(methods)

    def find(self, path: str) -> Entrance | None:
        """Find the entrance of a path as a client sent it; None for one that is not listed.

        >>> sorted(Entrances().find("/v1/flights/predict").roles("POST"))
        ['predict']
        >>> Entrances().find("/v1/flights/predict/") is None
        True
        """
        plain = self._plain.get(path)
        if plain is not None:
            return plain
        parts = path.split("/")
        for pattern, entrance in self._named.get(len(parts), ()):
            if all(map(_fits, pattern, parts)):
                return entrance
        return None


def _fits(pattern: str, part: str) -> bool:
    return part == pattern if not pattern.startswith("{") else bool(part)
