"""Versions and the numbered row of roles, changed by compare-and-set with a recorded Decision.

Knows which versions exist, which part each plays; knows nothing of artifacts'
content or of why roles change.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Select,
    Text,
    column,
    insert,
    select,
    table,
)

from app.contracts.records import ModelVersion, Roles
from app.contracts.shares import ONLY_CHAMPION, Shares
from app.ledger.database import Ledger, UtcTime
from app.ledger.decisions import DecisionMissing, find_decision
from app.ledger.epochs import check_epoch, steward_name
from app.ledger.journal import append
from app.registry.marks import mark_new_version
from app.registry.replicas import Replica as Replica
from app.registry.replicas import acknowledge as acknowledge
from app.registry.replicas import live_replicas as live_replicas
from app.registry.replicas import retire_replica as retire_replica

VERSIONS = table(
    "versions",
    column("model", Text),
    column("run", Text),
    column("digest", Text),
    column("created_at", UtcTime),
    column("record", Text),
)
ROLES = table(
    "roles",
    column("model", Text),
    column("generation", BigInteger),
    column("champion", Text),
    column("previous", Text),
    column("challenger", Text),
    column("decision", Text),
    column("at", UtcTime),
    column("shares", Text),
    column("shadow", Text),
)
_PARTS = ("champion", "previous", "challenger", "shadow")


class VersionUnknown(ValueError):
    """No version is registered under that digest or run."""


class VersionConflict(ValueError):
    """A run tried to register a second, different version."""


class RolesMoved(RuntimeError):
    """Somebody else changed the roles first."""


class RolesRefused(ValueError):
    """Roles that cannot be: an unknown version, one playing two parts, shares of nobody."""


class RolesAt(NamedTuple):
    """A generation of roles and when it began."""

    at: datetime
    roles: Roles


def register_version(ledger: Ledger, version: ModelVersion) -> ModelVersion:
    """Register a version under its run, once; registering the same version again changes nothing.

    Raises VersionConflict when the run has registered another digest.
    """
    with ledger.transaction() as connection:
        found = connection.execute(_by_run(version.model, version.run)).first()
        if found is not None:
            return _same(_version(found), version)
        connection.execute(
            insert(VERSIONS).values(
                model=version.model,
                run=version.run,
                digest=version.digest,
                created_at=version.created_at,
                record=version.model_dump_json(),
            )
        )
        facts: dict[str, object] = {
            "digest": version.digest,
            "run": version.run,
            "kind": version.kind,
        }
        append(connection, version.model, "registered", facts, version.created_at)
        mark_new_version(connection, version)
    return version


def find_version(ledger: Ledger, digest: str) -> ModelVersion:
    """Find a version by digest. Raises VersionUnknown."""
    query = select(VERSIONS.c.record).where(VERSIONS.c.digest == digest).order_by(VERSIONS.c.run)
    with ledger.reading() as connection:
        row = connection.execute(query.limit(1)).first()
    if row is None:
        raise VersionUnknown(f"registry: no version has the digest {digest}; register it first")
    return _version(row)


def version_of_run(ledger: Ledger, model: str, run: str) -> ModelVersion | None:
    """Find what a training run registered; None while it has registered nothing."""
    with ledger.reading() as connection:
        row = connection.execute(_by_run(model, run)).first()
    return None if row is None else _version(row)


def list_versions(ledger: Ledger, model: str) -> list[ModelVersion]:
    """List a model's versions, oldest first."""
    query = (
        select(VERSIONS.c.record)
        .where(VERSIONS.c.model == model)
        .order_by(VERSIONS.c.created_at, VERSIONS.c.run)
    )
    with ledger.reading() as connection:
        return [_version(row) for row in connection.execute(query)]


def read_roles(ledger: Ledger, model: str) -> Roles:
    """Read the roles now; generation 0, all empty, before the first change."""
    with ledger.reading() as connection:
        return current_roles(connection, model)


def current_roles(connection: Connection, model: str) -> Roles:
    """Read the roles inside the caller's transaction."""
    newest = (
        select(ROLES).where(ROLES.c.model == model).order_by(ROLES.c.generation.desc()).limit(1)
    )
    row = connection.execute(newest).first()
    return Roles(model=model, generation=0) if row is None else _roles(row)


def roles_history(ledger: Ledger, model: str) -> list[RolesAt]:
    """List every generation and when it began, oldest first."""
    query = select(ROLES).where(ROLES.c.model == model).order_by(ROLES.c.generation)
    with ledger.reading() as connection:
        return [RolesAt(row.at, _roles(row)) for row in connection.execute(query)]


def change_roles(
    connection: Connection,
    expected_generation: int,
    new: Roles,
    decision_key: str,
    epoch: int,
    at: datetime,
) -> Roles:
    """Write the next generation of roles, inside the caller's transaction, and journal it.

    `new.generation` and `new.decision` are set here. Raises Fenced for an old epoch, RolesMoved
    when the current generation is not the expected one, DecisionMissing without a recorded
    decision, RolesRefused for an unregistered version, or for shares without who answers them.
    """
    check_epoch(connection, steward_name(new.model), epoch)
    if find_decision(connection, decision_key) is None:
        raise DecisionMissing(f"roles of {new.model}: decision {decision_key} is not recorded")
    current = current_roles(connection, new.model)
    if current.generation != expected_generation:
        raise RolesMoved(
            f"roles of {new.model}: expected generation {expected_generation}, found "
            f"{current.generation}"
        )
    _refuse_impossible(connection, new)
    written = new.model_copy(
        update={"generation": expected_generation + 1, "decision": decision_key}
    )
    connection.execute(insert(ROLES).values(**_row(written), at=at))
    append(connection, new.model, "roles", written.model_dump(mode="json"), at)
    return written


def _by_run(model: str, run: str) -> Select[Any]:
    return select(VERSIONS.c.record).where(VERSIONS.c.model == model, VERSIONS.c.run == run)


def _same(there: ModelVersion, new: ModelVersion) -> ModelVersion:
    if there.digest != new.digest:
        raise VersionConflict(
            f"registry: run {new.run} registered {there.digest} before and now {new.digest}; "
            "give a new run a new name"
        )
    return there


def _refuse_impossible(connection: Connection, new: Roles) -> None:
    named = [(part, getattr(new, part)) for part in _PARTS if getattr(new, part) is not None]
    digests = [digest for _, digest in named]
    if len(set(digests)) != len(digests):
        raise RolesRefused(
            f"roles of {new.model}: one version cannot play two parts, got {dict(named)}"
        )
    if new.shares != ONLY_CHAMPION and (new.champion is None or new.challenger is None):
        raise RolesRefused(
            f"roles of {new.model}: shares need a champion and a challenger, got {dict(named)}; "
            "name both or drop the shares"
        )
    for part, digest in named:
        known = select(VERSIONS.c.run).where(
            VERSIONS.c.model == new.model, VERSIONS.c.digest == digest
        )
        if connection.execute(known).first() is None:
            raise RolesRefused(f"roles of {new.model}: {part} {digest} is not registered")


def _row(roles: Roles) -> dict[str, Any]:
    given = roles.shares != ONLY_CHAMPION
    return {
        **roles.model_dump(exclude={"shares"}),
        "shares": roles.shares.model_dump_json() if given else None,
    }


def _version(row: Row[Any]) -> ModelVersion:
    return ModelVersion.model_validate_json(row.record)


def _roles(row: Row[Any]) -> Roles:
    return Roles(
        model=row.model,
        generation=row.generation,
        champion=row.champion,
        previous=row.previous,
        challenger=row.challenger,
        shadow=row.shadow,
        decision=row.decision,
        shares=Shares.model_validate_json(row.shares) if row.shares else ONLY_CHAMPION,
    )
