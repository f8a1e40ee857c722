"""Say whether the newest evidence shows a trouble, and since when.

Knows evidence and its diagnosis; knows nothing of who is told or what is done about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.records import Diagnosis, Evidence
from app.monitoring.diagnosis import diagnose
from app.sections import DiagnosisConfig

QUIET = ("healthy", "too_few_labels")


@dataclass(frozen=True)
class Alarm:
    """A trouble and the evidence that showed it first."""

    evidence: Evidence
    diagnosis: Diagnosis

    @property
    def name(self) -> str:
        """Name the episode: the same for as long as the cause and the version stay."""
        item = self.evidence
        return f"{item.end:%Y-%m-%d}-{self.diagnosis.cause}-{item.version[:12]}"


def standing_alarm(evidence: Sequence[Evidence], config: DiagnosisConfig) -> Alarm | None:
    """Give the alarm that stands after the newest evidence, None if it shows no trouble.

    Args:
        evidence: oldest first; an episode reaches back as far as version and cause are the same.
        config: when a difference matters.
    """
    alarm: Alarm | None = None
    for item in reversed(evidence):
        diagnosis = diagnose(item, config)
        if diagnosis.cause in QUIET:
            break
        if alarm is not None and (item.version, diagnosis.cause) != _kind(alarm):
            break
        alarm = Alarm(item, diagnosis)
    return alarm


def _kind(alarm: Alarm) -> tuple[str, str]:
    return alarm.evidence.version, alarm.diagnosis.cause
