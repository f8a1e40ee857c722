"""Say what each column of a row adds to its prediction: attributions that add up.

A column's share is its Shapley value in the game in which a column is either the row's or the
reference's, and the worth of a choice of columns is the calibrated prediction on an additive scale.
What is attributed is `ModelBundle.predict` itself, members, calibrator and clipping included, so
that the reference's worth and the shares sum to the row's worth for any kind of model. The shares
of columns that stand as in the reference are 0.

Sources: Sundararajan and Najmi, The many Shapley values for model explanation (2020), for one
reference; Castro, Gómez and Tejada, Polynomial calculation of the Shapley value based on sampling
(2009), as Captum implements it; Mitchell et al., Sampling permutations for Shapley value estimation
(2022), for orders that come with their reverse. Knows bundles and accepted rows; knows nothing of
HTTP, Ray or who asks.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.contracts.rows import Task
from app.data.features import Encoded
from app.model.bundle import ModelBundle
from app.model.correction import Array, logit
from app.model.reference import Players, Reference, middle_row, players_of

SCALES: dict[Task, str] = {
    "binary": "log-odds of the calibrated probability",
    "multiclass": "log-odds of the calibrated probability of the class",
    "regression": "the predicted value, in the label's unit",
    "ranking": "the score",
}
# Captum adds in float32: of the sum of the shares' sizes this much may be lost.
TOLERANCE = 1e-5
# Of so many columns all orders are taken, 120 of 5: the shares are exact.
MOST_EXACT = 5
SEED = 7
PAIRS_AT_ONCE, MOST_PAIRS = 8, 48
# Enough orders are drawn when no share's standard error is over this part of the sum of sizes.
ENOUGH = 0.01

Order = tuple[int, ...]
Pair = tuple[Order, Order]
Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """What a column adds to the worth of the reference, and the standard error of that figure."""

    column: str
    value: float
    error: float


@dataclass(frozen=True)
class Explanation:
    """The worths of a row and of the reference, and what each column adds from one to the other."""

    prediction: float
    """What the bundle predicts of the row alone; of several classes, of the one explained."""
    worth: float
    """The same on the additive scale."""
    reference: float
    """The reference's."""
    shares: tuple[Share, ...]
    """In the order of the encoder's columns."""
    is_exact: bool
    """Whether all orders of the columns were taken; the sum is right either way."""
    num_orders: int

    @property
    def residual(self) -> float:
        """What the reference's worth and the shares lack of the row's worth: rounding."""
        return self.worth - self.reference - sum(share.value for share in self.shares)

    @property
    def tolerance(self) -> float:
        """How large the residual may be."""
        return TOLERANCE * max(1.0, sum(abs(share.value) for share in self.shares))


class Explainer:
    """Explains rows by one bundle. Safe to call from several threads."""

    def __init__(self, bundle: ModelBundle) -> None:
        """Take the bundle and find the middle of its rows of training."""
        self.bundle = bundle
        self.reference: Reference = middle_row(bundle.encoder, bundle.profile)
        self.players: Players = players_of(bundle.encoder)

    @cached_property
    def reference_prediction(self) -> Array:
        """What the bundle predicts of the reference: [1], of several classes [1, C]."""
        return self.bundle.predict_encoded(self.reference.encoded)

    def explain(self, table: pa.Table, outcome: str | None = None) -> list[Explanation]:
        """Explain each accepted row, alone: its figures do not depend on the rows beside it.

        `outcome` is the class whose log-odds are attributed, of a multiclass bundle; absent, the
        likeliest of each row. The same row and bundle give the same bits on one machine and number
        of torch threads. Takes about a hundred predictions a column and row. Raises ValueError for
        a missing column or an unknown class, ArithmeticError when the bundle predicts no number.
        """
        return [self._explain(table.slice(i, 1), outcome) for i in range(table.num_rows)]

    def _explain(self, row: pa.Table, outcome: str | None) -> Explanation:
        encoded = self.bundle.encoder.transform(row)
        predicted = self.bundle.predict_encoded(encoded)
        place = self._place(predicted, outcome)

        def worths(predictions: Array) -> Array:
            named = predictions if place is None else predictions[:, place]
            return logit(named) if self._is_probability else np.asarray(named, np.float64)

        against = Against(encoded, self.reference.encoded, self.players)
        game = Game(
            lambda rows: worths(self.bundle.predict_encoded(rows)),
            against,
            float(worths(predicted)[0]),
            float(worths(self.reference_prediction)[0]),
        )
        shares, errors, num_orders = _shares(game)
        every = np.zeros((2, len(self.players.names)))
        every[:, against.moving] = shares, errors
        explanation = Explanation(
            prediction=float(predicted[0] if place is None else predicted[0, place]),
            worth=game.full,
            reference=game.empty,
            shares=tuple(map(Share, self.players.names, *every.tolist())),
            is_exact=game.num_players <= MOST_EXACT,
            num_orders=num_orders,
        )
        # Nor is NaN within any tolerance.
        if not abs(explanation.residual) <= explanation.tolerance:
            raise ArithmeticError(f"shares do not add up: {explanation.residual:g} is left over")
        return explanation

    @property
    def _is_probability(self) -> bool:
        return self.bundle.contract.task in ("binary", "multiclass")

    def _place(self, predicted: Array, outcome: str | None) -> int | None:
        """Give the class to explain, None where there is one number a row."""
        classes = self.bundle.contract.classes
        if outcome is not None and outcome not in classes:
            listed = ", ".join(classes) or "none"
            raise ValueError(f"class: got {outcome[:100]}; the classes are {listed}")
        if self.bundle.contract.task != "multiclass":
            return None
        return int(predicted[0].argmax()) if outcome is None else classes.index(outcome)


class Against:
    """A row against the reference: mixtures that take some columns from the one, the rest from it.

    Columns that are encoded alike in both do not move, and take no part.
    """

    def __init__(self, row: Encoded, reference: Encoded, players: Players) -> None:
        self._row, self._reference = row, reference
        numbers = players.of_numbers[(row.numbers != reference.numbers)[0]]
        codes = players.of_categories[(row.categories != reference.categories)[0]]
        self.moving = np.union1d(numbers, codes)
        # A place more for the columns that do not move: never chosen.
        seat = np.full(len(players.names), len(self.moving))
        seat[self.moving] = np.arange(len(self.moving))
        self._seat_F, self._seat_C = seat[players.of_numbers], seat[players.of_categories]

    def mixed(self, chosen_ND: Chosen) -> Encoded:
        """Give N encoded rows: the columns chosen of the D that move are the row's."""
        padded = np.pad(chosen_ND, ((0, 0), (0, 1)))
        return Encoded(
            np.where(padded[:, self._seat_F], self._row.numbers, self._reference.numbers),
            np.where(padded[:, self._seat_C], self._row.categories, self._reference.categories),
        )


class Game:
    """What each choice of the columns that move is worth.

    The whole row and the reference are worth what they are alone, to the bit: a float32 probability
    next to 1 can differ in another batch, and its log-odds differ visibly.
    """

    def __init__(
        self, worths: Callable[[Encoded], Array], against: Against, full: float, empty: float
    ) -> None:
        self._worths, self._against = worths, against
        self.num_players = len(against.moving)
        self.full, self.empty = full, empty
        self._known = {
            np.zeros(self.num_players, bool).tobytes(): empty,
            np.ones(self.num_players, bool).tobytes(): full,
        }

    def foresee(self, orders: Sequence[Order]) -> None:
        """Find the worth of all that orders go through, in one batch: a third of the time."""
        steps = np.arange(self.num_players)[:, None]
        gone = np.concatenate([np.argsort(order) <= steps for order in orders])
        new = {key: choice for choice in gone if (key := choice.tobytes()) not in self._known}
        if new:
            worths = self._worths(self._against.mixed(np.stack([*new.values()])))
            self._known |= zip(new, worths.tolist(), strict=True)

    def play(self, chosen_ND: Tensor) -> Tensor:
        """Give the worth [N] of choices, 1 for the row's column and 0 for the reference's."""
        chosen = chosen_ND.numpy() > 0.5
        worths = [self._known[choice.tobytes()] for choice in chosen]
        return torch.tensor(worths, dtype=torch.float64)


def _shares(game: Game) -> tuple[Array, Array, int]:
    """Give the shares of the columns that move [D], their standard errors, and the orders taken."""
    if not game.num_players:
        return np.empty(0), np.empty(0), 0
    if game.num_players <= MOST_EXACT:
        shares_PD = _taken(game, [*_every_pair(game.num_players)])
        return shares_PD.mean(0), np.zeros(game.num_players), 2 * len(shares_PD)
    pairs = [*_drawn_pairs(game.num_players)]
    shares_PD = np.empty((0, game.num_players))
    for first in range(0, MOST_PAIRS, PAIRS_AT_ONCE):
        more = _taken(game, pairs[first : first + PAIRS_AT_ONCE])
        shares_PD = np.concatenate([shares_PD, more])
        # The standard error of a mean over pairs, which are drawn independently of each other.
        errors_D: Array = shares_PD.std(0, ddof=1) / np.sqrt(len(shares_PD))
        if errors_D.max() <= ENOUGH * np.abs(shares_PD.mean(0)).sum():
            break
    return shares_PD.mean(0), errors_D, 2 * len(shares_PD)


def _taken(game: Game, pairs: Sequence[Pair]) -> Array:
    """Give what each column adds in the mean of each pair of orders [P, D]."""
    game.foresee([order for pair in pairs for order in pair])
    return np.stack([_along(game, pair) for pair in pairs])


def _along(game: Game, pair: Pair) -> Array:
    """Give the mean over orders of what each column adds when columns move in that order."""
    # Imported here: it takes a second, and most processes explain nothing.
    from captum.attr import ShapleyValueSampling

    method = ShapleyValueSampling(game.play)
    # As Captum's own ShapleyValues does with all orders: these are drawn from our seed, in pairs.
    method.permutation_generator = lambda num_players, num_orders: iter(pair)
    whole = torch.ones(1, game.num_players)
    added = method.attribute(
        whole,
        baselines=torch.zeros_like(whole),
        n_samples=len(pair),
        perturbations_per_eval=game.num_players,
    )
    shares: Array = added[0].double().numpy()
    return shares


def _every_pair(num_players: int) -> Iterator[Pair]:
    """Give all orders, each once, with its reverse; of one column there is one, given twice."""
    for order in itertools.permutations(range(num_players)):
        if order <= order[::-1]:
            yield order, order[::-1]


def _drawn_pairs(num_players: int) -> Iterator[Pair]:
    """Draw orders, each with its reverse: the same ones for the same number of columns."""
    chance = np.random.default_rng([SEED, num_players])
    for _ in range(MOST_PAIRS):
        order = tuple(chance.permutation(num_players).tolist())
        yield order, order[::-1]
