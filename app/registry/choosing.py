"""Which version people mean: by the beginning of its digest, else the champion.

Knows versions and roles; knows nothing of what is done with the one that is found.
"""

from app.contracts.records import ModelVersion
from app.ledger.database import Ledger
from app.registry.store import VersionUnknown, list_versions, read_roles

MIN_PREFIX = 6


def choose_version(
    ledger: Ledger, model: str, prefix: str | None = None, *, or_latest: bool = False
) -> ModelVersion:
    """Find a version by the beginning of its digest; without one the champion.

    Args:
        ledger: where versions and roles stand.
        model: whose versions are meant.
        prefix: the digest or its beginning, six digits at least.
        or_latest: take the version that was registered last where there is no champion.

    Raises VersionUnknown, with the versions that there are, when none or more than one is meant.
    """
    versions = list_versions(ledger, model)
    if not versions:
        raise VersionUnknown(f"{model}: no version is registered yet; run jobs.train first")
    if prefix is None:
        champion = read_roles(ledger, model).champion
        for one in versions:
            if one.digest == champion:
                return one
        if or_latest:
            return versions[-1]
        latest = versions[-1].digest[:12]
        raise VersionUnknown(f"{model} has no champion yet; name a version: the latest is {latest}")
    if len(prefix) < MIN_PREFIX:
        raise VersionUnknown(
            f"version {prefix!r}: give at least {MIN_PREFIX} digits of its digest, of one of "
            f"{_known(versions)}"
        )
    found = {one.digest: one for one in reversed(versions) if one.digest.startswith(prefix)}
    if len(found) != 1:
        of = "has none of that digest; it" if not found else "may be any of several; it"
        raise VersionUnknown(f"version {prefix}: {model} {of} has {_known(versions)}")
    return next(iter(found.values()))


def _known(versions: list[ModelVersion]) -> str:
    return ", ".join(sorted({one.digest[:12] for one in versions}))
