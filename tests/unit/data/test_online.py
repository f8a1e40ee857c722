"""The online store gives the values of history, bit for bit, however its facts arrive."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.contracts.rows import Contract
from app.contracts.windows import LIVE_SOURCE
from app.data.facts import event_facts, label_facts
from app.data.online import OnlineStore
from app.security.keyring import FileKeyring
from tests.sealed_pages import every_page
from tests.windows_world import (
    DAY,
    HOUR,
    T0,
    bits,
    make_contract,
    make_events,
    make_labels,
    make_stream,
    offline,
)

REACH = DAY


def asked_rows() -> pa.Table:
    riders, depots = ["a", "b", "c", "nobody", None], ["north", "south", None]
    pairs = [(rider, depot) for rider in riders for depot in depots]
    return pa.table({"rider": [r for r, _ in pairs], "depot": [d for _, d in pairs]})


Open = Callable[[Contract], OnlineStore]


@pytest.fixture(params=["plain", "sealed"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> FileKeyring | None:
    return FileKeyring(tmp_path / "keyring.json") if request.param == "sealed" else None


@pytest.fixture
def open_store(tmp_path: Path, keyring: FileKeyring | None) -> Iterator[Open]:
    """A function that opens the same store again and again."""
    opened = []

    def opening(contract: Contract) -> OnlineStore:
        opened.append(OnlineStore(tmp_path / "online", contract, REACH, keyring))
        return opened[-1]

    yield opening
    for store in opened:
        store.close()


def feed(
    store: OnlineStore, events: list[dict[str, Any]], labels: list[dict[str, Any]], now: int
) -> Any:
    contract = store.contract
    facts = event_facts(make_events(events, contract), contract)
    return store.update(facts, label_facts(make_labels(labels), contract.arrivals), now)


def whole_history(
    contract: Contract, events: list[Any], labels: list[Any], rows: pa.Table, moment: int
) -> pa.Table:
    as_of = np.full(rows.num_rows, moment)
    return offline(contract, make_events(events, contract), make_labels(labels), rows, as_of)


@pytest.mark.parametrize("seed", range(3))
def test_a_replayed_stream_gives_online_what_history_gives(open_store: Open, seed: int) -> None:
    contract = make_contract(settle_seconds=60)
    events, labels = make_stream(seed)
    numbered = [
        (fact["arrival"], kind, i)
        for kind, facts in enumerate((events, labels))
        for i, fact in enumerate(facts)
    ]
    arrivals = sorted(numbered)
    chance, rows = random.Random(seed), asked_rows()
    store, compared = open_store(contract), 0
    while arrivals:
        size = chance.choice([1, 5, 40])
        batch, arrivals = arrivals[:size], arrivals[size:]
        now = batch[-1][0]
        if chance.random() < 0.1:
            store = open_store(contract)
        for _ in range(chance.choice([1, 2])):
            feed(
                store,
                [events[i] for _, kind, i in batch if kind == 0],
                [labels[i] for _, kind, i in batch if kind == 1],
                now,
            )
        for moment in (now, now - chance.randrange(REACH)):
            # History as it is in the end: all that arrived later was not known at that moment.
            left = {(kind, i) for _, kind, i in arrivals}
            arrived, told = (
                [f for i, f in enumerate(facts) if (kind, i) not in left or is_live(f)]
                for kind, facts in enumerate((events, labels))
            )
            online = store.values(rows, np.full(rows.num_rows, moment))
            assert bits(online) == bits(whole_history(contract, arrived, told, rows, moment))
            compared += online.num_rows * online.num_columns
    assert compared > 3000


def is_live(fact: dict[str, Any]) -> bool:
    """A live fact that has not arrived cannot be known yet: history may hold it all the same."""
    return bool(fact["source"] == LIVE_SOURCE)


def trip(number: int, time: int, **changes: Any) -> dict[str, Any]:
    event = {
        "id": f"t{number}",
        "time": time,
        "arrival": time,
        "source": "ingest:x",
        "rider": "a",
        "depot": "north",
        "place": "p",
        "price": 2.5,
    }
    return {**event, **changes}


def value(store: OnlineStore, name: str, moment: int, rider: str = "a") -> float | None:
    row = pa.table({"rider": [rider], "depot": ["north"]})
    found: float | None = store.values(row, np.array([moment]))[name][0].as_py()
    return found


def test_a_repeated_update_adds_nothing_and_says_so(open_store: Open) -> None:
    store = open_store(make_contract())
    label = {"id": "t1", "known_at": T0, "arrival": T0, "source": "ingest:x", "label": 1}
    assert feed(store, [trip(1, T0)], [label], T0) == (1, 1, 0)
    assert feed(store, [trip(1, T0)], [label], T0) == (0, 0, 0)
    assert value(store, "trips", T0 + HOUR) == 1.0
    assert value(store, "late_sum", T0 + HOUR) == 1.0


def test_what_was_committed_is_there_after_a_restart_with_its_offsets(open_store: Open) -> None:
    contract = make_contract()
    store = open_store(contract)
    facts = event_facts(make_events([trip(1, T0)], contract), contract)
    nothing = label_facts(make_labels([]), contract.arrivals)
    store.update(facts, nothing, T0, {"events": 7})
    store.close()
    again = open_store(contract)
    assert again.offset("events") == 7
    assert again.offset("labels") is None
    assert value(again, "spent", T0 + HOUR) == 2.5


def test_an_update_that_fails_half_way_leaves_the_store_as_it_was(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(make_contract())
    feed(store, [trip(1, T0)], [], T0)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("app.data.running.add", fail)
        with pytest.raises(OSError, match="no space"):
            feed(store, [trip(2, T0)], [], T0)
    assert value(store, "trips", T0 + HOUR) == 1.0
    feed(store, [trip(2, T0)], [], T0)
    assert value(store, "trips", T0 + HOUR) == 2.0


def test_a_fact_that_came_after_it_counted_is_told(open_store: Open) -> None:
    store = open_store(make_contract(settle_seconds=60))
    live = trip(1, T0, source=LIVE_SOURCE)
    assert feed(store, [live], [], T0 + 30_000_000).num_late == 0
    assert feed(store, [{**live, "id": "t2"}], [], T0 + 90_000_000).num_late == 1


def test_a_row_from_before_the_horizon_gets_no_value(open_store: Open) -> None:
    store = open_store(make_contract())
    feed(store, [trip(1, T0)], [], T0)
    feed(store, [trip(2, T0 + 60 * DAY)], [], T0 + 60 * DAY)
    assert store.horizon > T0 + 50 * DAY
    assert value(store, "trips", T0 + HOUR) is None
    assert value(store, "trips", T0 + 60 * DAY + HOUR) == 1.0


def test_what_has_left_all_windows_leaves_the_store(open_store: Open) -> None:
    windows = tuple(w for w in make_contract().windows if w.name != "since_last")
    store = open_store(make_contract().model_copy(update={"windows": windows}))
    sizes = []
    for day in range(0, 200, 5):
        now = T0 + day * DAY
        trips = [trip(day * 100 + i, now + i * HOUR, rider=f"r{day}-{i}") for i in range(20)]
        labels = [
            {"id": e["id"], "known_at": now, "arrival": now, "source": "ingest:x", "label": 0}
            for e in trips
        ]
        feed(store, trips, labels, now)
        with store.file.reading() as database:
            sizes.append(
                [
                    database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("events", "revisions", "sums", "spans")
                ]
            )
    early, late = np.array(sizes[:20]).max(axis=0), np.array(sizes[20:]).max(axis=0)
    assert (late <= 1.1 * early).all()


def test_forgetting_takes_an_entity_out_of_every_value_and_every_byte(
    open_store: Open, keyring: FileKeyring | None
) -> None:
    contract = make_contract()
    events, labels = make_stream(3, 80)
    for event in events:
        if event["rider"] == "a":
            event.update(rider="p_subject_7", id=f"secret-{event['id']}", place="hideout")
    renamed = {e["id"].removeprefix("secret-"): e["id"] for e in events}
    labels = [{**each, "id": renamed[each["id"]]} for each in labels]
    store, moment = open_store(contract), T0 + 39 * DAY
    store.reach = 60 * DAY
    feed(store, events, labels, moment)
    assert b"p_subject_7" in every_byte(store, keyring)
    mine = [event for event in events if event["rider"] == "p_subject_7"]
    assert store.forget({"rider": {"p_subject_7"}}) == len({(e["id"], e["time"]) for e in mine})
    for trace in (b"p_subject_7", b"secret-", b"hideout"):
        assert trace not in every_byte(store, keyring)
    others = [event for event in events if event not in mine]
    told = [label for label in labels if not label["id"].startswith("secret-")]
    rows = asked_rows()
    for at in range(0, 39, 3):
        moment = T0 + at * DAY
        online = store.values(rows, np.full(rows.num_rows, moment))
        assert bits(online) == bits(whole_history(contract, others, told, rows, moment))


def every_byte(store: OnlineStore, keyring: FileKeyring | None) -> bytes:
    """The bytes of all files of a store; of a sealed one what its pages are, free ones too."""
    if keyring is None:
        return b"".join(path.read_bytes() for path in sorted(store.file.path.parent.iterdir()))
    return every_page(store.file.path, keyring)


def test_another_definition_has_a_file_of_its_own(tmp_path: Path) -> None:
    contract = make_contract()
    paths = set()
    for changed in (
        contract,
        contract.model_copy(update={"windows": contract.windows[:3]}),
        make_contract(settle_seconds=1),
    ):
        for keyring in (None, FileKeyring(tmp_path / "keyring.json")):
            store = OnlineStore(tmp_path, changed, REACH, keyring)
            paths.add(store.file.path)
            store.close()
    assert len(paths) == 6


READER = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from app.data.online import OnlineStore
from app.security.keyring import FileKeyring
from tests.windows_world import make_contract
keyring = FileKeyring(Path(sys.argv[3])) if sys.argv[3:] else None
store = OnlineStore(Path(sys.argv[1]), make_contract(), 10**12, keyring)
row = pa.table({"rider": ["a"], "depot": ["north"]})
seen = [0.0]
while seen[-1] < 60:
    counted, spent = (store.values(row, np.array([int(sys.argv[2])]))[n][0].as_py()
                      for n in ("trips", "spent"))
    seen.append(counted)
    both = store.values(row, np.array([int(sys.argv[2])]))
    assert both["spent"][0].as_py() == 2.5 * both["trips"][0].as_py()
assert seen == sorted(seen)
print("read", len(set(seen)))
"""


def test_another_process_reads_whole_commits_while_this_one_writes(
    open_store: Open, tmp_path: Path, keyring: FileKeyring | None
) -> None:
    store = open_store(make_contract())
    arguments = [sys.executable, "-c", READER, str(tmp_path / "online"), str(T0 + HOUR)]
    arguments += [str(tmp_path / "keyring.json")] if keyring else []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as reader:
        for number in range(60):
            feed(store, [trip(number, T0)], [], T0)
        output, _ = reader.communicate(timeout=120)
    assert reader.returncode == 0
    assert output.startswith("read ")
