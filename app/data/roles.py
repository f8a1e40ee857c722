"""Say what each column of a stranger's table is for: feature, id, time, entity, or nothing.

Knows counts, kinds and names; knows nothing of files or of the outcome.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from app.contracts.rows import Column, Privacy
from app.data.contents import MAX_VALUES, Tally
from app.data.kinds import Spelling, words_of

Use = Literal["feature", "suspect", "id", "time", "entity", "kept", "ignored"]
ID_WORDS = frozenset(words_of("id_ids_key_uuid_guid_number_no_nr_ref_reference"))
COUNTING_NAMES = frozenset(("unnamed", "index", "rownames", "row", "rowid", "row_id", "unnamed_0"))
ENTITY_WORDS = frozenset(
    words_of(
        "customer_user_client_account_patient_member_device_card_person_employee_subject_individual"
        "_household_driver_vehicle_student_passenger_merchant_seller_supplier_company_store_email"
        "_pidnum_player_machine_sensor"
    )
)
EVENT_WORDS = words_of(
    "event_timestamp_datetime_occurred_time_order_transaction_date_created_start"
)
REMARK_WORDS = frozenset(words_of("comment_comments_note_notes_remark_remarks_description"))
MAX_CLOSED, MIN_COUNT, MAX_CLOSED_TEXT = 12, 5, 100
HIGH_SHARE = 0.5
# Mean numbers of characters.
FREE_TEXT, MAX_ID = 25, 40
MAX_CODES = 50
MARGIN = 0.25
SMALLEST, LARGEST = 1e-290, 1e290


@dataclass(frozen=True)
class Guess:
    """A column of the file, what it becomes, what it is for, and why."""

    source: str
    name: str
    use: Use
    column: Column | None
    """In the contract; None where the column is left in the file."""
    why: tuple[str, ...]


@dataclass(frozen=True)
class Roles:
    """Which columns play the parts that only one can; None where none can."""

    id: str | None
    event_time: str | None
    entity: str | None
    reasons: Mapping[str, str]

    def applied(self, guesses: Sequence[Guess]) -> list[Guess]:
        """Give the columns their parts."""
        return [self._apply(guess) for guess in guesses]

    def _apply(self, guess: Guess) -> Guess:
        parts: dict[str | None, Use] = {
            self.entity: "entity",
            self.event_time: "time",
            self.id: "id",
        }
        use = parts.get(guess.name)
        if use is None or guess.column is None:
            return guess
        changes: dict[str, object] = {"feature": False}
        if use != "time":
            changes |= {"kind": "identifier", "categories": None, "minimum": None, "maximum": None}
        column = Column.model_validate({**guess.column.model_dump(), **changes})
        why = (self.reasons[guess.name], *guess.why)
        return replace(guess, use=use, column=column, why=why)


def judge_column(
    source: str, counts: Tally, spelling: Spelling, privacy: tuple[Privacy, str]
) -> Guess:
    """Describe one column by itself."""
    name, (privacy_class, because) = counts.column.name, privacy
    if counts.num_present == 0:
        return Guess(source, name, "ignored", None, ("empty in every row",))
    if privacy_class == "personal":
        column = Column(
            name=name, kind="identifier", privacy="personal", nullable=True, feature=False
        )
        return Guess(source, name, "kept", column, (f"personal: {because}; a pseudonym is kept",))
    if counts.num_distinct == 1 and counts.num_null == 0:
        (only,) = counts.values or ("",)
        return Guess(source, name, "ignored", None, (f"the same in every row: {only}",))
    described = {"number": _number, "category": _text, "identifier": _code, "time": _time}
    guess = described[counts.column.kind](source, counts, spelling.why)
    if guess.column is None:
        return guess
    more = [_gaps(counts), because if privacy_class == "quasi" else "", _unreadable(counts)]
    column = guess.column.model_copy(
        update={"nullable": counts.num_null > 0, "privacy": privacy_class}
    )
    return replace(guess, column=column, why=(*guess.why, *filter(None, more)))


def assign(guesses: Sequence[Guess], tallies: Mapping[str, Tally], num_rows: int) -> Roles:
    """Choose id, event time and entity."""
    open_guesses = [guess for guess in guesses if guess.column is not None]
    reasons: dict[str, str] = {}
    ids = [g for g in open_guesses if _may_be_id(g, tallies[g.source])]
    ids.sort(key=lambda guess: not set(words_of(guess.name)) & ID_WORDS)
    times = [g for g in open_guesses if _may_be_time(g, tallies[g.source])]
    times.sort(key=lambda guess: _event_rank(guess.name))
    entities = [g for g in open_guesses if _may_be_entity(g, tallies[g.source], num_rows)]
    entities.sort(key=lambda guess: not set(words_of(guess.name)) & ENTITY_WORDS)
    chosen = {"id": ids, "time": times, "entity": entities}
    first = {part: found[0].name if found else None for part, found in chosen.items()}
    if first["id"]:
        reasons[first["id"]] = "identifies a row: different in every one"
    if first["time"]:
        reasons[first["time"]] = "when it happened" + (
            f"; the other times are {', '.join(g.name for g in times[1:])}" if times[1:] else ""
        )
    if first["entity"]:
        reasons[first["entity"]] = "who or what a row is about: it comes again"
    return Roles(first["id"], first["time"], first["entity"], reasons)


def _number(source: str, counts: Tally, why: str) -> Guess:
    name, words = counts.column.name, set(words_of(counts.column.name))
    if (
        counts.is_unique
        and counts.is_whole
        and _counts_rows(counts)
        and (name in COUNTING_NAMES or not name)
    ):
        return Guess(source, name, "ignored", None, ("it only counts the rows",))
    low, high = limits_of(counts)
    column = Column(name=name, kind="number", minimum=low, maximum=high)
    seen = f"{counts.minimum:g} to {counts.maximum:g}"
    if counts.is_unique and counts.is_whole and words & ID_WORDS:
        return Guess(source, name, "kept", column.model_copy(update={"feature": False}), (why,))
    return Guess(source, name, "feature", column, (f"{why}, {seen}",))


def _text(source: str, counts: Tally, why: str) -> Guess:
    name, present, words = counts.column.name, counts.num_present, set(words_of(counts.column.name))
    length = counts.num_characters / present
    if words & REMARK_WORDS:
        reason = "remarks: free text may name people, and says later what was not known before"
        return Guess(source, name, "ignored", None, (reason,))
    if words & ID_WORDS and length <= MAX_ID:
        return _code(source, counts, why)
    at_least = MAX_VALUES if counts.num_distinct is None else counts.num_distinct
    if at_least <= max(HIGH_SHARE * present, 20) and (at_least < MAX_VALUES or length < FREE_TEXT):
        return _category(source, counts, why)
    if words & ENTITY_WORDS and length <= MAX_ID:
        column = Column(name=name, kind="identifier", feature=False)
        return Guess(source, name, "kept", column, (why,))
    if length >= FREE_TEXT:
        reason = "free text: nothing to learn from as it is, and it may name people"
    else:
        reason = f"{at_least:,} different values or more in {present:,} cells: few come again"
    return Guess(source, name, "ignored", None, (reason,))


def _category(source: str, counts: Tally, why: str) -> Guess:
    closed = closed_set(counts)
    column = Column(name=counts.column.name, kind="category", categories=closed)
    reason = f"{why}, {_different(counts)} values"
    reason += ", each seen often: others are refused" if closed else "; new ones may come"
    return Guess(source, column.name, "feature", column, (reason,))


def _different(counts: Tally) -> str:
    if counts.num_distinct is None:
        return f"more than {MAX_VALUES:,}"
    return f"{counts.num_distinct:,}"


def _code(source: str, counts: Tally, why: str) -> Guess:
    """A code that names few things often is a category; otherwise it names rows or entities."""
    name = counts.column.name
    few = counts.num_distinct is not None and counts.num_distinct <= MAX_CODES
    named = set(words_of(name)) & (ID_WORDS | ENTITY_WORDS)
    if counts.is_unique and not named and not few:
        return Guess(source, name, "ignored", None, (f"{why}, different in every row",))
    if (few and not counts.is_unique) or not named:
        column = Column(name=name, kind="category")
        return Guess(source, name, "feature", column, (f"{why}, {_different(counts)} values",))
    column = Column(name=name, kind="identifier", feature=False)
    return Guess(source, name, "kept", column, (why,))


def _time(source: str, counts: Tally, why: str) -> Guess:
    column = Column(name=counts.column.name, kind="time")
    return Guess(source, column.name, "feature", column, (why,))


def limits_of(counts: Tally) -> tuple[float | None, float | None]:
    """Give the range that was seen with a quarter of its width on both sides, rounded outward.

    A number that was never negative stays so; a share stays within 0 and 1.
    """
    low, high = counts.minimum, counts.maximum
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    width = high - low or max(abs(high), 1.0)
    # Beyond these a float has no room for a margin; what was never seen is infinite here.
    if not SMALLEST < width < LARGEST:
        return None, None
    step = 10.0 ** (math.floor(math.log10(width)) - 1)
    if counts.is_whole:
        step = max(step, 1.0)
    lowest = min(_rounded(math.floor((low - MARGIN * width) / step) * step, step), low)
    highest = max(_rounded(math.ceil((high + MARGIN * width) / step) * step, step), high)
    return (max(lowest, 0.0) if low >= 0 else lowest), (min(highest, 0.0) if high <= 0 else highest)


def _rounded(value: float, step: float) -> float:
    return round(value, max(0, -math.floor(math.log10(step))))


def closed_set(counts: Tally) -> tuple[str, ...] | None:
    """Give the values as a closed set, when each was seen often; None when others may come.

    What share of the future is new is about the share of values seen once (Good, 1953): none here.
    """
    values = counts.values
    if values is None or len(values) > MAX_CLOSED or min(values.values()) < MIN_COUNT:
        return None
    texts = tuple(sorted(values))
    return texts if sum(map(len, texts)) <= MAX_CLOSED_TEXT else None


def _gaps(counts: Tally) -> str:
    return f"{counts.num_null / counts.num_rows:.1%} empty" if counts.num_null else ""


def _unreadable(counts: Tally) -> str:
    if not counts.num_unreadable:
        return ""
    return f"{counts.num_unreadable:,} cells will be quarantined: one {counts.complaint}"


def _counts_rows(counts: Tally) -> bool:
    return counts.minimum in (0, 1) and counts.maximum - counts.minimum == counts.num_rows - 1


def _may_be_id(guess: Guess, counts: Tally) -> bool:
    assert guess.column is not None
    fits = guess.column.kind == "identifier" or (
        counts.is_whole and set(words_of(guess.name)) & ID_WORDS
    )
    public = guess.column.privacy != "personal"
    return bool(fits and public and counts.is_unique and guess.name not in COUNTING_NAMES)


def _may_be_time(guess: Guess, counts: Tally) -> bool:
    assert guess.column is not None
    return (
        guess.column.kind == "time"
        and counts.num_present >= 0.98 * counts.num_rows
        and counts.num_null == 0
    )


def _event_rank(name: str) -> int:
    words = words_of(name)
    ranks = [rank for rank, word in enumerate(EVENT_WORDS) if word in words]
    late = bool({"end", "ended", "closed", "updated", "due", "modified", "last"} & set(words))
    return (ranks[0] if ranks else len(EVENT_WORDS)) + 100 * late


def _may_be_entity(guess: Guess, counts: Tally, num_rows: int) -> bool:
    """An entity comes again, and is neither everywhere nor a class of a few."""
    assert guess.column is not None
    if guess.column.kind != "identifier" or counts.is_unique:
        return False
    named = set(words_of(guess.name)) & (ENTITY_WORDS | ID_WORDS)
    if counts.num_distinct is None:
        return bool(named)
    comes_again = counts.num_present >= 1.05 * counts.num_distinct
    return bool(named) and comes_again and counts.num_distinct > min(50, num_rows // 10)
