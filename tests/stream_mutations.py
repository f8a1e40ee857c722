"""Mutate Arrow streams and read them, in a process of its own: it must outlive all of them.

Run as `python -m tests.stream_mutations SEED NUMBER`; prints how many were read and how many were
refused by the frames, by Arrow, by the columns. Whatever else is raised ends it.
"""

import json
import random
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.ipc as ipc

from app.config import load_config
from app.contracts.rows import Contract
from app.data.validation import validate
from app.serving.arrivingcolumns import with_nullable
from app.serving.arrowstream import read_stream
from app.serving.messages import Refused
from tests.serving_world import make_table

MAX_ROWS, MAX_BYTES = 500, 2**20
# Values that tell most about how numbers are read.
TELLING = (0, 1, 0x7F, 0x80, 0xFF)
WORDS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**40, 8)


def streams(contract: Contract) -> list[bytes]:
    """Write the same rows in every type that is taken, of the narrowest to the widest."""
    table = make_table(contract, 20)
    others = table
    changes = {
        "flight_id": pa.large_string(),
        "tail": pa.dictionary(pa.int8(), pa.string()),
        "carrier": pa.string_view(),
        "origin": pa.dictionary(pa.uint32(), pa.large_string()),
        "scheduled_departure": pa.timestamp("ns", "America/New_York"),
        "distance": pa.float32(),
    }
    for name, kind in changes.items():
        place = others.schema.get_field_index(name)
        others = others.set_column(place, name, others[name].cast(kind))
    departures = pa.array(range(1, 21), pa.int64())
    place = others.schema.get_field_index("origin_departures")
    others = others.set_column(place, "origin_departures", departures)
    keyed = table.append_column("_idempotency_key", [[f"k{i}" for i in range(20)]])
    return [written(each, rows) for each in (table, others, keyed) for rows in (7, 100)]


def written(table: pa.Table, max_chunksize: int) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max_chunksize)
    return sink.getvalue().to_pybytes()


def mutated(stream: bytes, chance: random.Random) -> bytes:
    """Change a stream: bits, bytes, words, a cut, a piece twice or out, two streams in one."""
    content = bytearray(stream)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place = chance.randrange(len(content))
        way = chance.randrange(6)
        if way == 0:
            content[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            content[place] = chance.choice(TELLING)
        elif way == 2:
            word = chance.choice(WORDS).to_bytes(8, "little")[: chance.choice((4, 8))]
            place -= place % 4
            content[place : place + len(word)] = word
        elif way == 3:
            other = chance.randrange(len(content))
            size = chance.randrange(1, 64)
            content[place : place + size] = content[other : other + size]
        elif way == 4:
            # What lies in front of a body is small and says most.
            place = chance.randrange(min(600, len(content)))
            content[place] = chance.randrange(256)
        else:
            del content[place : place + chance.choice((1, 4, 8, 64))]
        if not content:
            content = bytearray(stream)
    return bytes(content)


def main(seed: int, number: int) -> None:
    """Read so many mutated streams, as a replica would, up to judged rows."""
    contract = load_config("configs/flights.yaml").contract
    chance, outcomes = random.Random(seed), Counter[str]()
    originals = streams(contract)
    for _ in range(number):
        stream = mutated(chance.choice(originals), chance)
        try:
            table = read_stream(stream, contract, MAX_ROWS, MAX_BYTES).table
        except Refused as refused:
            outcomes[refused.problem.where.partition(".")[0]] += 1
            continue
        checked = validate(with_nullable(table, contract), contract)
        assert checked.accepted.num_rows + checked.quarantined.num_rows == table.num_rows
        outcomes["read"] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
