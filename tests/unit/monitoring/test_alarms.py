from app.contracts.records import Evidence
from app.monitoring.alarms import standing_alarm
from app.sections import DiagnosisConfig
from tests.unit.monitoring.logs import Run, day, make_day

CONFIG = DiagnosisConfig(min_labels=20)


def weeks(*quarantined: int, version: str = "v1") -> list[Evidence]:
    """Evidence with so many quarantined rows each; a few hundred mean broken data."""
    found = Run().fold(make_day(0)).fold(make_day(1)).judge(day(3)).evidence[-1]
    return [
        found.model_copy(update={"end": day(n), "num_quarantined": count, "version": version})
        for n, count in enumerate(quarantined)
    ]


def test_an_alarm_tells_when_its_episode_began() -> None:
    alarm = standing_alarm(weeks(500, 0, 500, 500, 500), CONFIG)

    assert alarm is not None
    assert alarm.evidence.end == day(2)
    assert alarm.name == "2013-04-04-broken_data-v1"


def test_an_episode_ends_with_quiet_evidence() -> None:
    before = weeks(500, 500)
    (quiet,) = weeks(0)
    few = quiet.model_copy(update={"performance": None})

    assert standing_alarm([*before, few], CONFIG) is None
    assert standing_alarm([], CONFIG) is None


def test_another_version_begins_another_episode() -> None:
    old, new = weeks(500, 500), weeks(500, 500, 500, version="v2")[2:]

    alarm = standing_alarm([*old, *new], CONFIG)

    assert alarm is not None
    assert (alarm.evidence.version, alarm.evidence.end) == ("v2", day(2))
