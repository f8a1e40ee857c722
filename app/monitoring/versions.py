"""Hold the versions that the monitor judges: bundle, record, and the figures to compare with.

Knows registry and artifacts; knows nothing of logs, windows or Ray.
"""

from dataclasses import dataclass

from app.contracts.records import Evaluation, ModelVersion
from app.ledger.database import Ledger
from app.ledger.decisions import read_decisions
from app.model.bundle import ModelBundle
from app.monitoring.evidence import Reference
from app.registry.artifacts import Artifacts
from app.registry.store import find_version

MAX_RESIDENT = 4


@dataclass(frozen=True)
class Resident:
    """A version as the monitor needs it."""

    version: ModelVersion
    bundle: ModelBundle
    reference: Reference


class Versions:
    """Loads versions when they are first asked for and keeps the latest few."""

    def __init__(self, ledger: Ledger, artifacts: Artifacts) -> None:
        self._ledger = ledger
        self._artifacts = artifacts
        self._residents: dict[str, Resident] = {}

    def get(self, digest: str) -> Resident:
        """Give a registered version, verified when it was loaded.

        Raises VersionUnknown, ArtifactMissing or ArtifactAltered.
        """
        if digest not in self._residents:
            if len(self._residents) >= MAX_RESIDENT:
                self._residents.pop(next(iter(self._residents)))
            self._residents[digest] = self._load(digest)
        return self._residents[digest]

    def _load(self, digest: str) -> Resident:
        """Load a version; its reference figures are its gate's, else early stopping's."""
        version = find_version(self._ledger, digest)
        bundle = ModelBundle.load(self._artifacts.path(digest), digest)
        evaluation = gated_evaluation(self._ledger, version) or version.binary_evaluation
        reference = Reference(digest, bundle.profile, evaluation, version.trained_until)
        return Resident(version, bundle, reference)


def gated_evaluation(ledger: Ledger, version: ModelVersion) -> Evaluation | None:
    """Find a version's figures on the rows of its gate, which no part of it learned from."""
    for decision in reversed(read_decisions(ledger, version.model)):
        outcome = decision.outcome or {}
        gate = outcome.get("gate")
        if isinstance(gate, dict) and outcome.get("version") == version.digest:
            return Evaluation.model_validate(gate["candidate"])
    return None
