"""Deal rows to the versions that answer them, in one place: each scores its own rows at once.

Where the challenger has no usable answer the champion gives one, and the fault is noted. Knows
residents, arms, rows and tables; knows nothing of HTTP, Ray, SQL or files.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from app.data.goodrows import PlainRow
from app.serving.arms import Arm, Arms, Stamp
from app.serving.residents import Bundle, Generation
from app.serving.rowpath import RowPath
from app.serving.tablepath import Turn, checked_probabilities

Score = Callable[[Bundle, list[int]], Sequence[float]]


class Dealt(NamedTuple):
    """Answers, a row each, and who gave them."""

    probabilities: Iterable[float]
    stamps: list[Stamp] | None
    """None where the champion answered all of them."""


def deal_rows(
    generation: Generation,
    row_path: RowPath,
    rows: list[PlainRow],
    keys: Sequence[str],
    at: datetime,
) -> Dealt:
    """Score rows of plain values. Raises ArithmeticError when the champion has no answer."""
    if generation.salt is None:
        return Dealt(row_path.score(generation.sure_champion, rows), None)
    arms = _arms(generation, row_path.entities(rows), keys, at)

    def score(bundle: Bundle, places: list[int]) -> Sequence[float]:
        return row_path.score(bundle, [rows[place] for place in places])

    return _deal(generation, arms, score)


def deal_table(turn: Turn, entity: str | None, accepted: pa.Table, keys: Sequence[str]) -> Dealt:
    """Score rows of a table whose column `entity` says who each is about; see deal_rows."""
    generation = turn.generation
    if generation.salt is None or turn.alone:
        champion = generation.sure_champion
        return Dealt(checked_probabilities(champion.predict(accepted)), None)

    def score(bundle: Bundle, places: list[int]) -> Sequence[float]:
        mine = accepted if len(places) == accepted.num_rows else accepted.take(places)
        given: list[float] = checked_probabilities(bundle.predict(mine)).tolist()
        return given

    entities = [None] * len(keys) if entity is None else accepted[entity].to_pylist()
    return _deal(generation, _arms(generation, entities, keys, turn.at), score)


def _arms(
    generation: Generation, entities: Sequence[str | None], keys: Sequence[str], at: datetime
) -> list[Arm]:
    """Draw an arm for each row; one that is about nobody is drawn by its key."""
    assert generation.salt is not None, "there is an experiment"
    arms = Arms(generation.salt, generation.roles.shares, at)
    return [
        arms.of(key if entity is None else entity, key)
        for entity, key in zip(entities, keys, strict=True)
    ]


def _deal(generation: Generation, arms: list[Arm], score: Score) -> Dealt:
    roles = generation.roles
    versions = {"champion": str(roles.champion), "challenger": str(roles.challenger)}
    probabilities = [0.0] * len(arms)
    mine = [place for place, arm in enumerate(arms) if arm.part == "challenger"]
    if mine:
        try:
            challenger = generation.bundles[versions["challenger"]]
            _put(probabilities, mine, score(challenger, mine))
        # A challenger can raise anything; it must not cost anybody an answer.
        except Exception as error:
            generation.faults.note(versions["challenger"], len(mine), error)
            arms = [arm.fallen_back if arm.part == "challenger" else arm for arm in arms]
    rest = [place for place, arm in enumerate(arms) if arm.part == "champion"]
    if rest:
        _put(probabilities, rest, score(generation.sure_champion, rest))
    stamps = [Stamp(versions[arm.part], roles.generation, arm.name, arm.propensity) for arm in arms]
    return Dealt(probabilities, stamps)


def _put(probabilities: list[float], places: list[int], given: Sequence[float]) -> None:
    if len(given) != len(places):
        raise ArithmeticError(f"expected {len(places)} probabilities, got {len(given)}")
    for place, probability in zip(places, given, strict=True):
        probabilities[place] = probability
