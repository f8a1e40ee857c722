"""Check a version: its bytes, the records about it, its rows, and what is different here and now.

Knows the registry, artifacts, runs' folders and snapshots; knows nothing of how a version was made.
What is broken fails; what merely differs here and now is named with both values, since a version
is no worse for being looked at from another machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from app.config import Config
from app.contracts.circumstances import Circumstances, Difference
from app.contracts.records import ModelVersion
from app.contracts.rows import Contract, Frozen
from app.data.snapshots import SnapshotAltered, open_snapshot
from app.data.tables import Tables
from app.ledger.database import Ledger
from app.ledger.erasures import read_reductions
from app.model.bundle import ModelBundle
from app.model.manifest import ArtifactAltered
from app.registry.artifacts import ArtifactMissing, Artifacts
from app.registry.choosing import choose_version
from app.registry.store import version_of_run
from app.training.assembly import SECTIONS
from app.training.differing import configuration_differences, differences_here
from app.training.plans import (
    RunUnknown,
    find_plan,
    find_result,
    read_circumstances,
    recorded_config,
)

CheckState = Literal["ok", "differs", "failed", "absent"]


class Check(Frozen):
    """One thing that was looked at."""

    name: str
    state: CheckState
    said: str
    differences: tuple[Difference, ...] = ()


class VersionCheck(Frozen):
    """What checking a version came to."""

    model: str
    digest: str
    run: str
    registered: bool
    verified: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Place:
    """Where versions, runs and rows are, and what this code and machine are."""

    config: Config
    ledger: Ledger
    tables: Tables
    here: Circumstances


def find_checked(
    config: Config, ledger: Ledger, *, run: str | None = None, version: str | None = None
) -> tuple[ModelVersion, bool]:
    """Find the version of a run, or by the beginning of its digest, or the champion.

    Tells too whether the registry has it: a repetition is known by its run only. Raises
    VersionUnknown or RunUnknown.
    """
    if run is not None:
        if (registered := version_of_run(ledger, config.name, run)) is not None:
            return registered, True
        if (result := find_result(config, run)) is not None:
            return result.version, False
        raise RunUnknown(f"run {run}: nothing is registered and nothing finished under that name")
    return choose_version(ledger, config.name, version), True


def check_version(place: Place, version: ModelVersion, *, registered: bool) -> VersionCheck:
    """Check everything that there is to check; none of it stops at the first failure."""
    checks = tuple(_checks(place, version))
    return VersionCheck(
        model=version.model,
        digest=version.digest,
        run=version.run,
        registered=registered,
        verified=all(check.state != "failed" for check in checks),
        checks=checks,
    )


def _checks(place: Place, version: ModelVersion) -> Iterator[Check]:
    bundle, artifact = _bundle(place, version)
    yield artifact
    if bundle is not None:
        yield _card(bundle, version)
    yield from _records(place, version)
    yield _rows(place, version, bundle.contract if bundle else place.config.contract)
    yield from _here(place, version)


def _bundle(place: Place, version: ModelVersion) -> tuple[ModelBundle | None, Check]:
    """Load the artifact, checked against its manifest and digest; None when it is not that."""
    try:
        folder = Artifacts(place.config.artifacts_path).path(version.digest)
        bundle = ModelBundle.load(folder, version.digest)
    except (ArtifactMissing, ArtifactAltered) as error:
        return None, Check(name="artifact", state="failed", said=str(error))
    said = f"{len(bundle.files)} files are those of the manifest, the manifest that of the digest"
    return bundle, Check(name="artifact", state="ok", said=said)


def _card(bundle: ModelBundle, version: ModelVersion) -> Check:
    named = (
        ("seed", version.seed),
        ("config_digest", version.config_digest),
        ("code_version", version.code_version),
    )
    # The card of a recalibrated version is about its calibrator: it names less.
    pairs = [(name, bundle.card[name], value) for name, value in named if name in bundle.card]
    return _compared("card", "registry", pairs)


def _records(place: Place, version: ModelVersion) -> Iterator[Check]:
    """Check what the run's folder says against the registry."""
    plan, result = find_plan(place.config, version.run), find_result(place.config, version.run)
    if plan is None:
        said = f"no folder of run {version.run}"
        if version.parent is not None:
            said += f"; recalibrated from {version.parent[:12]}, whose run has the plan"
        yield Check(name="plan", state="absent", said=said)
        return
    pairs: list[tuple[str, object, object]] = [
        ("dataset", plan.dataset.content, version.dataset.content)
    ]
    if plan.configuration is not None:
        pairs.append(("config_digest", _config_digest(place, version.run), version.config_digest))
    yield _compared("plan", "registry", pairs)
    circumstances = read_circumstances(place.config, version.run)
    if version.circumstances is not None:
        found = circumstances.digest if circumstances else None
        yield _compared("circumstances", "registry", [("digest", found, version.circumstances)])
    if result is None:
        yield Check(name="result", state="absent", said="the run's folder holds no result")
        return
    there, here = (orjson.loads(each.model_dump_json()) for each in (result.version, version))
    yield _compared("result", "registry", [(key, there[key], here[key]) for key in here])


def _config_digest(place: Place, run: str) -> str:
    plan = find_plan(place.config, run)
    assert plan is not None
    try:
        return recorded_config(plan, run).digest_of(*SECTIONS)
    except RunUnknown as error:
        return str(error)


def _compared(name: str, other: str, pairs: Sequence[tuple[str, object, object]]) -> Check:
    unequal = [
        Difference(name=key, first=str(here), second=str(there), effect="none")
        for key, there, here in pairs
        if here != there
    ]
    if not unequal:
        return Check(name=name, state="ok", said=f"agrees with the {other}")
    told = "; ".join(f"{each.name}: {other} {each.first}, {name} {each.second}" for each in unequal)
    return Check(name=name, state="failed", said=told, differences=tuple(unequal))


def _rows(place: Place, version: ModelVersion, contract: Contract) -> Check:
    """Say whether the rows that it learned from are intact, reduced by erasures, or altered.

    The contract is the version's own: today's may have other columns.
    """
    reductions = read_reductions(place.ledger, place.config.name)
    try:
        _, check = open_snapshot(place.tables, contract, version.dataset, reductions)
    except SnapshotAltered as error:
        return Check(name="snapshot", state="failed", said=str(error))
    if check.state == "altered":
        said = f"altered: {check.reason}, found {check.found}"
        return Check(name="snapshot", state="failed", said=said)
    state: CheckState = "ok" if check.state == "intact" else "differs"
    return Check(name="snapshot", state=state, said=f"{check.state}: {check.reason}")


def _here(place: Place, version: ModelVersion) -> Iterator[Check]:
    """Compare what it was made under with the code, the settings and the machine here and now."""
    code = place.here.code.version
    if code == version.code_version:
        yield Check(name="code", state="ok", said=f"the sources here are {code}")
    else:
        changed = Difference(
            name="code.version", first=version.code_version, second=code, effect="model"
        )
        said = f"made by sources {version.code_version}, here are {code}"
        yield Check(name="code", state="differs", said=said, differences=(changed,))
    yield _settings(place, version)
    recorded = read_circumstances(place.config, version.run)
    if recorded is None:
        said = "not written down: made before they were, or its run's folder is gone"
        yield Check(name="environment", state="absent", said=said)
        return
    found = [each for each in differences_here(recorded, place.here) if each.name != "code.version"]
    yield _named("environment", found, "packages and machine are those that it was made with")


def _settings(place: Place, version: ModelVersion) -> Check:
    now = place.config.digest_of(*SECTIONS)
    if now == version.config_digest:
        return Check(name="settings", state="ok", said="today's are those that it was made with")
    plan = find_plan(place.config, version.run)
    if plan is None or plan.configuration is None:
        said = f"made with settings {version.config_digest}, today's are {now}"
        return Check(name="settings", state="differs", said=said)
    try:
        recorded = recorded_config(plan, version.run)
    except RunUnknown as error:
        return Check(name="settings", state="differs", said=str(error))
    return _named("settings", list(configuration_differences(recorded, place.config)), "")


def _named(name: str, found: list[Difference], none: str) -> Check:
    if not found:
        return Check(name=name, state="ok", said=none)
    said = "; ".join(f"{each.name}: then {each.first}, now {each.second}" for each in found)
    return Check(name=name, state="differs", said=said, differences=tuple(found))
