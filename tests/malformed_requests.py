"""Requests that are broken in every way known here, each made from a seed and a number alone.

Knows bytes; opens no connection, see tests/raw_lines.py. Good requests are altered too: in their
JSON, their tensors, their Arrow streams, their paths and their heads.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import orjson

from app.contracts.rows import Contract
from tests.serving_world import make_rows
from tests.stream_mutations import mutated, streams
from tests.tensor_bodies import tensors_of

End = Literal["read", "half", "reset"]
PREDICT, LABELS, EXPLAIN = (f"/v1/flights/{verb}" for verb in ("predict", "labels", "explain"))
INFER = "/v2/models/flights/infer"
READ = ("/healthz", "/readyz", "/v2", "/v1/flights/metadata", "/v2/models/flights", "/openapi.json")
JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
BINARY = "application/octet-stream"
HEADER = "Inference-Header-Content-Length"
METHODS = (
    *("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PRI", "get"),
    *("PROPFIND", "BREW", "M-SEARCH", "POSTX", "", "GET\x00", "ПОСТ", "POST "),
)
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 1e308, -1e-320, 0.1),
    *("", "a", "\x00", "\ud800", "é", "𝕏" * 50, "NaN", "1", "2013-01-01", "9" * 400, "../x", "%s"),
    *(
        "2013-13-45T99:99:99Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "x" * 10000,
    ),
    *([], {}, [[]], [{}], {"": None}, {"a": {"b": [1]}}, [0] * 1000),
)
# What orjson does not write but a client may.
TOKENS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"0x10", b"01", b"1.", b".5", b"+1"),
    *(
        b"9" * 5000,
        b"0." + b"3" * 5000,
        b"1e-5000",
        b"'a'",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"undefined",
    ),
    *(
        b'"\\ud800"',
        b'"\\u0000"',
        b"/**/1",
        b"[1,]",
        b'{"a":1,"a":2}',
        b"tru",
        b"\xef\xbb\xbf1",
        b"",
    ),
)


@dataclass(frozen=True)
class Attempt:
    """What is sent on one connection, and how the sender leaves it."""

    kind: str
    pieces: tuple[bytes, ...]
    end: End = "read"
    pause: float = 0.0
    answers: int = 1
    """So many answers at most are waited for."""


class Maker:
    """Makes attempts; the same seed and number make the same attempt."""

    def __init__(self, contract: Contract, keys: dict[str, str], seed: int) -> None:
        """Take a good key, an expired token and the like by their names."""
        self._contract, self._keys, self._seed = contract, keys, seed
        self._kinds: list[tuple[Callable[[random.Random], Attempt], int]] = [
            (self._request_line, 8),
            (self._header, 14),
            (self._length, 7),
            (self._chunks, 8),
            (self._smuggled, 5),
            (self._cut, 3),
            (self._slow, 1),
            (self._pipelined, 5),
            (self._json, 16),
            (self._tensors, 8),
            (self._arrow, 8),
            (self._method, 5),
            (self._path, 7),
            (self._credential, 5),
        ]

    def make(self, number: int) -> Attempt:
        """Make an attempt."""
        chance = random.Random(f"{self._seed}-{number}")
        makers, weights = zip(*self._kinds, strict=True)
        return chance.choices(makers, weights)[0](chance)

    def good(self, number: int = 0) -> bytes:
        """Write a good request, of which nothing is wrong."""
        return self._request(
            "POST", PREDICT, orjson.dumps({"rows": self._rows[number : number + 1]})
        )

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return make_rows(self._contract, 40)

    @cached_property
    def _streams(self) -> list[bytes]:
        return streams(self._contract)

    @cached_property
    def _inferred(self) -> tuple[dict[str, Any], bytes]:
        """A good request of tensors: its JSON, and the bytes behind it."""
        tensors, tail = tensors_of(self._contract, self._rows[:5])
        return {"inputs": tensors, "parameters": {"empty_is_null": True}}, tail

    def _request(
        self, method: str, path: str, body: bytes = b"", kind: str = JSON, *more: bytes
    ) -> bytes:
        """Write a request with a good key."""
        lines = [
            f"{method} {path} HTTP/1.1".encode(),
            b"Host: replica",
            b"Authorization: Bearer " + self._keys["good"].encode(),
            *([b"Content-Type: " + kind.encode()] if body else []),
            *more,
        ]
        if not any(line.lower().startswith((b"content-length", b"transfer-enc")) for line in more):
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join([*lines, b"", body])

    def _body(self, chance: random.Random) -> tuple[str, bytes]:
        """Write a body that is good, and say where to."""
        rows = self._rows[: chance.randrange(1, 6)]
        outcome = {"labels": [{"row_id": "row-1", "label": 1}]}
        return chance.choice(
            [
                (PREDICT, orjson.dumps({"rows": rows})),
                (LABELS, orjson.dumps(outcome)),
                (EXPLAIN, orjson.dumps({"rows": rows[:1]}))
                if chance.random() < 0.05
                else (PREDICT, b"{}"),
            ]
        )

    def _request_line(self, chance: random.Random) -> Attempt:
        rest = (
            b"\r\nHost: replica\r\nAuthorization: Bearer "
            + self._keys["good"].encode()
            + b"\r\n\r\n"
        )
        line = chance.choice(
            [
                chance.randbytes(chance.randrange(1, 300)),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET /healthz HTTP/"
                + chance.choice([b"0.9", b"1.2", b"2.0", b"9.9", b"1", b"x", b""]),
                b"GET  /healthz HTTP/1.1",
                b"GET /healthz",
                b"GET\t/healthz\tHTTP/1.1",
                b" GET /healthz HTTP/1.1",
                b"\r\n\r\n\nGET /healthz HTTP/1.1",
                b"GET /" + b"a" * chance.choice([5000, 70_000, 300_000]) + b" HTTP/1.1",
                b"GET /healthz?" + b"a=" * 20_000 + b" HTTP/1.1",
                b"GET http://"
                + chance.choice([b"", b"[::1", b"a:99999", b"a@b:80/x", b"\xff"])
                + b"/ HTTP/1.1",
                b"GET * HTTP/1.1",
                b"OPTIONS * HTTP/1.1",
                b"CONNECT replica:443 HTTP/1.1",
                b"GET healthz HTTP/1.1",
                b"GET /\x00 HTTP/1.1",
                b"GET /\xff\xfe HTTP/1.1",
                b"GET /healthz HTTP/1.1 HTTP/1.1",
                b"",
            ]
        )
        if chance.random() < 0.1:
            rest = rest.replace(b"\r\n", chance.choice([b"\n", b"\r", b"\n\r"]))
        return Attempt("request line", (line + rest,))

    def _header(self, chance: random.Random) -> Attempt:
        blob = chance.randbytes(chance.randrange(1, 60))
        line = chance.choice(
            [
                b"X-Giant: " + b"g" * chance.choice([9_000, 70_000, 400_000]),
                b"\r\n".join(b"X-%d: y" % i for i in range(chance.choice([200, 5000]))),
                b"X-Name" * chance.choice([10, 12_000]) + b": y",
                b"X-Nul: a\x00b",
                b"X\x00Y: a",
                b"X-Latin: \xe9\xff" + blob.replace(b"\n", b"").replace(b"\r", b""),
                b"X-Blob: " + blob,
                blob + b": y",
                b"X-Fold: a\r\n b\r\n\tc",
                b" X-First-Fold: a",
                b"No-Colon",
                b"X-Space : y",
                b": no name",
                b"X-Cr: a\rb",
                b"Host: other",
                b"Host: replica, other",
                b"Content-Type: text/plain\r\nContent-Type: " + ARROW.encode(),
                b"Content-Type: "
                + chance.choice([b"", b"\x00", b"\xff/\xfe", b"a" * 5000, b";;;=", b"*/*"]),
                b"Content-Type: " + chance.choice([ARROW, BINARY, "multipart/form-data"]).encode(),
                b"Content-Encoding: " + chance.choice([b"gzip", b"identity", b"\xff", b"br, gzip"]),
                b"Expect: " + chance.choice([b"100-continue", b"200-ok", b"\xff"]),
                b"Connection: Upgrade\r\nUpgrade: "
                + chance.choice([b"websocket", b"h2c", b"\xff"]),
                b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: "
                + b"A" * 22
                + b"==\r\nSec-WebSocket-Version: 13",
                b"Connection: " + chance.choice([b"close, keep-alive", b"\xff", b"content-length"]),
                HEADER.encode()
                + b": "
                + chance.choice([b"-1", b"0", b"1e3", b"9" * 40, b"\xb2", b"5, 5", b""]),
                b"X-Request-ID: "
                + chance.choice([b"", b"a" * 5000, b"\xff" * 20, b"../../x", b"0" * 32]),
                b"Idempotency-Key: \xff",
                b"X-Forwarded-For: " + b"1.1.1.1, " * 1000,
                b"Cookie: " + b"a=b; " * 3000,
                b"Range: bytes=-1,0-,9-1",
                b"Accept: \xff;q=x",
                b"Trailer: Content-Length",
            ]
        )
        path, body = self._body(chance)
        whole = self._request("POST", path, body, JSON, line)
        if line.startswith(b"Content-Type") and chance.random() < 0.5:
            whole = whole.replace(b"Content-Type: application/json\r\n", b"", 1)
        return Attempt("header", (whole,))

    def _length(self, chance: random.Random) -> Attempt:
        path, body = self._body(chance)
        said = chance.choice(
            [
                *(
                    b"-1",
                    b"+5",
                    b"0x10",
                    b"1e2",
                    b"5, 5",
                    b"5 5",
                    b"",
                    b" ",
                    b"five",
                    b"\xb2",
                    b"\x00",
                ),
                *(
                    b"9" * 30,
                    b"9" * 3000,
                    b"%d" % 2**63,
                    b"%d" % 2**64,
                    b"%d" % 2**32,
                    b"1.0",
                    b"00002",
                ),
                *(b"0", b"1", b"%d" % (len(body) - 1), b"%d\r\nContent-Length: 3" % len(body)),
                *(b"%d\r\nContent-Length: %d" % (len(body), len(body)), b"%d" % (2**20 + 1)),
            ]
        )
        return Attempt(
            "length", (self._request("POST", path, body, JSON, b"Content-Length: " + said),)
        )

    def _chunks(self, chance: random.Random) -> Attempt:
        path, body = self._body(chance)
        said = chance.choice(
            [
                *[b"chunked"] * 8,
                *(
                    b"Chunked",
                    b"xchunked",
                    b"chunked, identity",
                    b"identity",
                    b"gzip, chunked",
                    b"\x0bchunked",
                ),
                *(
                    b"chunked\r\nTransfer-Encoding: chunked",
                    b"chunked;a=b",
                    b"",
                    b"chunked, chunked",
                ),
            ]
        )
        end = chance.choice(
            [b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 9\r\n\r\n", b"0;a\r\n\r\n"]
        )
        whole = b"%x\r\n%s\r\n" % (len(body), body) + end
        broken = chance.choice(
            [
                whole,
                b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in body[:500]) + end,
                chance.choice(
                    [b"-1", b"0x5", b"g", b"", b" 5", b"5 ", b"F" * 16, b"F" * 40, b"1" * 5000]
                )
                + b"\r\n"
                + body
                + b"\r\n"
                + end,
                b"%x\r\n%s" % (len(body), body) + end,
                b"%x\n%s\n0\n\n" % (len(body), body),
                b"%x;%s\r\n%s\r\n" % (len(body), b"e" * 50_000, body) + end,
                b"%x;a=\x00\r\n%s\r\n" % (len(body), body) + end,
                b"000000000000000000%x\r\n%s\r\n" % (len(body), body) + end,
                (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 18 + end,
                mutated(whole, chance),
            ]
        )
        head = self._request(
            "POST",
            path,
            b"",
            JSON,
            b"Transfer-Encoding: " + said,
            b"Content-Type: " + JSON.encode(),
        )
        return Attempt("chunks", (head + broken,))

    def _smuggled(self, chance: random.Random) -> Attempt:
        """Two lengths that differ: whoever believes the one finds a request in what is left."""
        inner = b"GET /v1/flights/metadata HTTP/1.1\r\nHost: replica\r\n\r\n"
        chunked = b"0\r\n\r\n" + inner
        said = chance.choice(
            [
                b"Transfer-Encoding: chunked",
                b"Transfer-Encoding : chunked",
                b"Transfer-Encoding:\tchunked",
                b"Transfer-Encoding: xchunked",
                b"X: y\r\n Transfer-Encoding: chunked",
                b"Transfer_Encoding: chunked",
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
                b"transfer-encoding: CHUNKED",
            ]
        )
        length = b"Content-Length: %d" % chance.choice([len(chunked), 5, 0, 4, len(chunked) + 10])
        lines = [said, length]
        chance.shuffle(lines)
        return Attempt(
            "smuggled", (self._request("POST", PREDICT, b"", JSON, *lines) + chunked,), answers=2
        )

    def _cut(self, chance: random.Random) -> Attempt:
        path, body = self._body(chance)
        whole = self._request("POST", path, body)
        end: End = chance.choices(["read", "half", "reset"], [1, 4, 4])[0]
        return Attempt("cut", (whole[: chance.randrange(1, len(whole))],), end)

    def _slow(self, chance: random.Random) -> Attempt:
        whole = self.good()
        pieces = chance.choice(
            [
                tuple(whole[i : i + 97] for i in range(0, len(whole), 97)),
                (whole[:20], *(b"X-%d: y\r\n" % i for i in range(40))),
                (b"\r\n",) * 40,
                (whole[:-200], *(bytes([byte]) for byte in whole[-200:-170])),
            ]
        )
        return Attempt("slow", pieces, pause=0.02)

    def _pipelined(self, chance: random.Random) -> Attempt:
        parts = []
        for _ in range(chance.choice([2, 3, 10, 60])):
            other = chance.choice([self._path, self._json, self._credential, self._header])
            is_good = chance.random() < 0.6
            part = self.good(chance.randrange(5)) if is_good else other(chance).pieces[0]
            # An answer without a body is not told from others in a row.
            parts.append(b"GET" + part[4:] if part.startswith(b"HEAD") else part)
        return Attempt("pipelined", (b"".join(parts),), answers=len(parts))

    def _json(self, chance: random.Random) -> Attempt:
        path = chance.choice([PREDICT] * 5 + [LABELS, INFER])
        if path == PREDICT:
            document: Any = {"rows": self._rows[: chance.randrange(1, 4)]}
        elif path == LABELS:
            document = {
                "labels": [{"row_id": "row-1", "label": 1, "known_at": "2013-01-01T00:00:00Z"}] * 3
            }
        else:
            document = {
                "inputs": [{"name": "distance", "shape": [1], "datatype": "FP64", "data": [1.0]}]
            }
        document = orjson.loads(orjson.dumps(document))
        way = chance.randrange(6)
        if way == 0:
            body = mutated(orjson.dumps(document), chance)
        elif way == 1:
            body = _deep(chance, document)
        elif way == 2:
            text = orjson.dumps(document)
            places = [i for i in range(len(text)) if text[i : i + 1] in b":,["]
            place = chance.choice(places) + 1
            body = text[:place] + chance.choice(TOKENS) + chance.choice([b"", b","]) + text[place:]
        elif way == 3:
            name = chance.choice(["utf-16", "utf-32", "utf-8-sig", "latin-1", "utf-7"])
            body = orjson.dumps(document).decode().replace("row", "rÖw").encode(name)
        else:
            for _ in range(chance.choice([1, 1, 2, 5])):
                document = _replaced(document, chance)
            body = _written(document)
        return Attempt("json", (self._request("POST", path, body),))

    def _tensors(self, chance: random.Random) -> Attempt:
        document, tail = self._inferred
        document = orjson.loads(orjson.dumps(document))
        for _ in range(chance.choice([0, 1, 1, 3])):
            document = _replaced(document, chance)
        head = _written(document)
        if chance.random() < 0.5:
            tail = mutated(tail, chance)
        length = len(head) + chance.choice([0, 0, 0, 0, 1, -1, 10**6])
        said = f"{HEADER}: {length}".encode()
        return Attempt("tensors", (self._request("POST", INFER, head + tail, BINARY, said),))

    def _arrow(self, chance: random.Random) -> Attempt:
        body = mutated(chance.choice(self._streams), chance)
        return Attempt("arrow", (self._request("POST", PREDICT, body, ARROW),))

    def _method(self, chance: random.Random) -> Attempt:
        path = chance.choice([PREDICT, LABELS, EXPLAIN, INFER, *READ, "/", "/docs"])
        method, (_, body) = chance.choice(METHODS), self._body(chance)
        body = body if chance.random() < 0.5 else b""
        return Attempt("method", (self._request(method, path, body),))

    def _path(self, chance: random.Random) -> Attempt:
        tricks = (
            *(
                "%00",
                "..",
                "//",
                "%2f",
                "%2e%2e",
                "%252e",
                "%ff",
                "%",
                "%zz",
                ";a=b",
                "?",
                "?a=%ff",
                "#a",
                "\\",
            ),
            *(
                "é",
                "\u202e",
                "{model}",
                "*",
                "a" * 3000,
                "%0d%0aSet-Cookie:a",
                "\t",
                "%u0041",
                "~",
                "$(id)",
                "'",
            ),
        )
        path = list(chance.choice([PREDICT, INFER, *READ, "/v1/flights/predictions/x", "/docs"]))
        for _ in range(chance.choice([1, 1, 2, 4])):
            place = chance.randrange(len(path) + 1)
            path[place : place + chance.randrange(2)] = [chance.choice(tricks)]
        method, body = chance.choice([("GET", b""), ("POST", b"{}"), ("HEAD", b"")])
        return Attempt("path", (self._request(method, "".join(path), body),))

    def _credential(self, chance: random.Random) -> Attempt:
        good = self._keys["good"].encode()
        shown = chance.choice([good, *(key.encode() for key in self._keys.values())])
        line = chance.choice(
            [
                b"Authorization: Bearer "
                + mutated(shown, chance).replace(b"\r", b"").replace(b"\n", b""),
                b"Authorization: Bearer "
                + shown
                + b"\r\nX-Api-Key: "
                + chance.choice(list(self._keys.values())).encode(),
                b"Authorization: "
                + chance.choice([b"", b"Bearer", b"Bearer ", b"Basic " + shown, shown, b"\xff"]),
                b"X-Api-Key: " + chance.choice(["ключ", "🔑", "é" * 47]).encode(),
                b"Authorization: Bearer " + shown * chance.choice([2, 150, 1000]),
                b"Authorization: Bearer " + shown + b"\r\nAuthorization: Bearer " + good[:-1],
                b"Authorization: Bearer eyJhbGciOiJub25lIn0." + b"." * chance.choice([0, 1, 500]),
                b"authorization: bEaReR \t" + good + b" ",
            ]
        )
        whole = self._request("POST", PREDICT, orjson.dumps({"rows": self._rows[:1]}))
        return Attempt("credential", (whole.replace(b"Authorization: Bearer " + good, line, 1),))


def _deep(chance: random.Random, document: Any) -> bytes:
    """Write brackets within brackets, or a document that is wide."""
    depth = chance.choice([100, 1000, 10_000, 100_000])
    key = next(iter(document)).encode()
    return chance.choice(
        [
            b"[" * depth,
            b"[" * depth + b"]" * depth,
            b'{"a":' * depth + b"1" + b"}" * depth,
            b'{"%s":%s%s}' % (key, b"[" * depth, b"]" * depth),
            b'{"%s":[{%s}]}' % (key, b",".join(b'"k%d":1' % i for i in range(depth // 10))),
            b'{"%s":[%s]}' % (key, b",".join([b"{}"] * (depth // 10))),
            b'{"%s":[%s]}' % (key, b"1" * depth),
        ]
    )


def _replaced(document: Any, chance: random.Random) -> Any:
    """Put junk in the place of a part of a document, drop the part, or add one."""
    if not isinstance(document, dict | list) or not document or chance.random() < 0.15:
        return chance.choice(JUNK)
    places: Any = list(document) if isinstance(document, dict) else range(len(document))
    place = chance.choice(places)
    way = chance.randrange(8)
    if way == 0 and isinstance(document, dict):
        return {**document, str(chance.choice(JUNK))[:300]: chance.choice(JUNK)}
    if way == 1 and isinstance(document, dict):
        return {name: value for name, value in document.items() if name != place}
    if way == 2 and isinstance(document, list):
        return [*document, document[place]]
    changed = document.copy()
    changed[place] = _replaced(document[place], chance)
    return changed


def _written(document: Any) -> bytes:
    """Write JSON, with what orjson refuses to write: lone surrogates and huge numbers."""
    return json.dumps(document).encode("utf-8", "surrogatepass")
