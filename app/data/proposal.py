"""Propose a contract for a stranger's table: what each column is, what it is for, and why.

Knows what was surveyed and counted; knows nothing of YAML or screens. Every choice has a reason.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.contracts.rows import Column, Task
from app.data.contents import Tally, tally
from app.data.dials import feature_dials, loop_dials, split_by_day, training_dials
from app.data.inline import blanked
from app.data.kinds import Spelling, guess_spelling, null_spellings
from app.data.outcomes import Outcome, find_label
from app.data.roles import Guess, Roles, assign, judge_column
from app.data.sensitive import guess_privacy
from app.data.spelling import is_flat, tidy
from app.data.survey import Survey
from app.data.suspects import leave_out_suspects, order_of
from app.data.targeting import Asked, make_lists, read_target
from app.sections import InlineConfig

GENERATED_ID, GENERATED_TIME = "row_id", "arrived_at"


@dataclass(frozen=True)
class Proposal:
    """A configuration for a table, with the reason for each of its guesses."""

    name: str
    survey: Survey
    outcome: Outcome
    guesses: tuple[Guess, ...]
    inline: InlineConfig
    roles: Roles
    split: dict[str, Any]
    num_gate: int
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the contract, those made on arrival first."""
        made = []
        if self.roles.id is None:
            made.append(Column(name=self.id, kind="identifier", feature=False, generated=True))
        if self.roles.event_time is None:
            made.append(Column(name=self.event_time, kind="time", feature=False, generated=True))
        return (*made, *(guess.column for guess in self.guesses if guess.column is not None))

    def with_ids_from(self, what: Literal["content", "position"]) -> "Proposal":
        """Make ids from rows' content alone, or from their place as well."""
        if self.roles.id is not None:
            return self
        return replace(self, inline=self.inline.model_copy(update={"generated_id": what}))

    @property
    def target(self) -> dict[str, Any]:
        """What the contract says of the label beside its name; nothing where it is binary."""
        said: dict[str, Any] = {"task": self.outcome.task, "classes": list(self.outcome.classes)}
        said["group"] = self.roles.entity if self.outcome.task == "ranking" else None
        return {key: value for key, value in said.items() if value and value != "binary"}

    @property
    def id(self) -> str:
        """The column that identifies a row."""
        return self.roles.id or self._free(GENERATED_ID)

    @property
    def event_time(self) -> str:
        """The column with the time of the event."""
        return self.roles.event_time or self._free(GENERATED_TIME)

    def _free(self, name: str) -> str:
        taken = {guess.name for guess in self.guesses} | {self.outcome.name}
        return name if name not in taken else f"made_{name}"

    def document(self, workspace: str) -> dict[str, Any]:
        """Give the configuration as YAML would hold it, defaults left out."""
        known, share = self.outcome.num_known, self.outcome.share
        source: dict[str, Any] = {"kind": self.survey.kind, "events": str(self.survey.path)}
        if self.survey.delimiter != ",":
            source["delimiter"] = self.survey.delimiter
        inline = self.inline.model_dump(mode="json", exclude_defaults=True)
        if self.inline.times:
            # Whole: a person may have to change the zone.
            inline["times"] = self.inline.model_dump(mode="json")["times"]
        source["inline"] = inline
        contract: dict[str, Any] = {"id": self.id, "event_time": self.event_time}
        if self.roles.entity is not None:
            contract["entity"] = self.roles.entity
        contract["label"] = self.outcome.name
        contract |= self.target
        columns = [c.model_dump(mode="json", exclude_defaults=True) for c in self.columns]
        binary = self.outcome.task == "binary"
        document = {
            "name": self.name,
            "workspace": workspace,
            "source": source,
            "contract": {**contract, "columns": columns},
            "features": feature_dials(known),
            "training": training_dials(known, self.split),
            "monitoring": {"min_labels": max(known // 8, 20)} if binary and known < 4_000 else {},
            "loop": loop_dials(known, self.num_gate, share) if binary else {},
        }
        return {key: value for key, value in document.items() if value}


def propose(
    survey: Survey,
    label: str,
    name: str,
    positive: Collection[str] = (),
    *,
    task: Task | None = None,
    group: str | None = None,
) -> Proposal:
    """Propose a configuration from one file with the outcome in a column.

    Reads the file once more. What is said of the label is taken: values that are positive, a task,
    for ranking the column whose rows of one value make a list. Raises LabelRefused for a label that
    cannot be learned, SourceError for a file that cannot be read.
    """
    source = find_label(label, survey.names)
    names = tidied(survey.names)
    nulls = null_spellings(survey.sample)
    spellings = {
        given: guess_spelling(survey.sample[given], names[given], nulls)
        for given in survey.names
        if given != source
    }
    inline = _inline(names, spellings, nulls, names[source])
    list_of = names[find_label(group, list(spellings), "group")] if group is not None else None
    columns = {
        given: Column(name=names[given], kind=spelling.kind, nullable=True)
        for given, spelling in spellings.items()
        if spelling.kind is not None
    }
    counted = columns | {source: Column(name=names[source], kind="category", nullable=True)}
    tallies = tally(survey.blocks(), counted, inline)
    # Whatever a label is called, it is no code and no time.
    spelling = guess_spelling(survey.sample[source], "", nulls)
    asked = Asked(positive, task, list_of)
    read = read_target(source, tallies.pop(source), spelling, asked)
    outcome = replace(read, name=names[source])
    if outcome.num_numbers and spelling.number is not None:
        numbers = {**inline.numbers, outcome.name: spelling.number}
        inline = inline.model_copy(update={"numbers": numbers})
    guesses = _judge(survey, names, spellings, tallies, inline)
    roles = assign(guesses, tallies, survey.num_rows)
    if list_of is not None:
        guesses, roles = make_lists(guesses, roles, list_of)
    guesses = roles.applied(guesses)
    guesses = leave_out_suspects(survey.sample, guesses, outcome, inline, roles)
    return _complete(name, survey, outcome, guesses, roles, tallies, inline)


def tidied(names: list[str]) -> dict[str, str]:
    """Name every column of a file as a contract can; names that would meet are numbered.

    >>> tidied(["A b", "a_b", "Größe"])
    {'A b': 'a_b', 'a_b': 'a_b_2', 'Größe': 'gr_e'}
    """
    given: dict[str, str] = {}
    for name in names:
        wanted, number = tidy(name), 2
        while wanted in given.values():
            wanted, number = f"{tidy(name)[:58]}_{number}", number + 1
        given[name] = wanted
    return given


def _inline(
    names: Mapping[str, str],
    spellings: Mapping[str, Spelling],
    nulls: tuple[str, ...],
    label: str,
) -> InlineConfig:
    return InlineConfig(
        label_column=label,
        rename={given: name for given, name in names.items() if tidy(given) != name},
        nulls=nulls,
        times={names[given]: s.time for given, s in spellings.items() if s.time is not None},
        numbers={names[given]: s.number for given, s in spellings.items() if s.number is not None},
    )


def _judge(
    survey: Survey,
    names: Mapping[str, str],
    spellings: Mapping[str, Spelling],
    tallies: Mapping[str, Tally],
    inline: InlineConfig,
) -> list[Guess]:
    guesses = []
    for given, spelling in spellings.items():
        if spelling.kind is None:
            guesses.append(Guess(given, names[given], "ignored", None, (spelling.why,)))
            continue
        shown = blanked(survey.sample[given], inline)
        known = shown.drop_null().slice(0, 500).to_pylist() if is_flat(shown.type) else []
        privacy = guess_privacy(names[given], known)
        guesses.append(judge_column(given, tallies[given], spelling, privacy))
    return guesses


def _complete(
    name: str,
    survey: Survey,
    outcome: Outcome,
    guesses: list[Guess],
    roles: Roles,
    tallies: Mapping[str, Tally],
    inline: InlineConfig,
) -> Proposal:
    used = {guess.name for guess in guesses if guess.column is not None} | {outcome.name}
    inline = inline.model_copy(
        update={
            **_spellings(outcome),
            "ignore": tuple(guess.name for guess in guesses if guess.column is None),
            "times": {key: value for key, value in inline.times.items() if key in used},
            "numbers": {key: value for key, value in inline.numbers.items() if key in used},
        }
    )
    split, num_gate = {"by": "entity"}, outcome.num_known // 5
    if outcome.task != "ranking":  # A list is never divided.
        split, num_gate = _split(roles, guesses, tallies, outcome.num_known, survey.num_rows)
    notes = _notes(survey, outcome, roles, inline, guesses)
    return Proposal(name, survey, outcome, tuple(guesses), inline, roles, split, num_gate, notes)


def _spellings(outcome: Outcome) -> dict[str, Any]:
    """Say how the file spells outcomes, where that is not what it is taken for anyway."""
    if outcome.task == "binary":
        return {"positive": outcome.positive, "negative": outcome.negative}
    return {"classes": dict(outcome.spellings)}


def _split(
    roles: Roles,
    guesses: list[Guess],
    tallies: Mapping[str, Tally],
    num_known: int,
    num_rows: int,
) -> tuple[dict[str, Any], int]:
    """Divide by day where the table has enough of them, otherwise by entity or id."""
    time = next((g.source for g in guesses if g.name == roles.event_time), None)
    by_day = split_by_day(tallies[time].days, num_rows) if time is not None else None
    if by_day is not None:
        return by_day, num_known // 5
    return {"by": "entity" if roles.entity is not None else "id"}, num_known // 5


def _notes(
    survey: Survey,
    outcome: Outcome,
    roles: Roles,
    inline: InlineConfig,
    guesses: list[Guess],
) -> tuple[str, ...]:
    """Say what concerns the table as a whole."""
    notes = []
    if survey.num_broken:
        notes.append(f"{survey.num_broken:,} lines have too few or too many cells: quarantined")
    if inline.nulls:
        notes.append(f"read as nothing: {', '.join(inline.nulls)}")
    if outcome.num_unknown:
        notes.append(f"{outcome.num_unknown:,} rows have no outcome yet; they wait for it")
    order = order_of(survey.sample, outcome, inline)
    if order is not None:
        notes.append(
            f"the file is sorted by the outcome (AUC of the order {order:.2f}): nothing that "
            "counts rows may be a feature"
        )
    if not any(guess.use == "feature" for guess in guesses):
        notes.append("no column is left to learn from: look at the suspects, one may be fair")
    if outcome.task == "binary" and min(outcome.num_positive, outcome.num_negative) < 50:
        notes.append("fewer than 50 rows of one outcome: wide intervals, or a gate's refusal")
    rare = [name for name, count in outcome.classes.items() if count < 50]
    if rare:
        notes.append(f"fewer than 50 rows of {', '.join(rare)}: wide intervals there")
    if roles.event_time is not None:
        notes.append(
            "outcomes count as known at the event; set source.inline.known_after_hours if not"
        )
    return tuple(notes)
