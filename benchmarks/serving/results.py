"""Put rounds together: medians for people, and ratios for the record.

Each figure stands beside the anchor's of the same moment, and is compared with others through it.
"""

import statistics
from dataclasses import fields
from typing import Any

from benchmarks.serving.contenders import ANCHOR, CONTENDERS, MAIN
from benchmarks.serving.rounds import Measured

Key = tuple[int, str, int]
Pair = tuple[Measured, Measured]
PEERS = {
    "vs_fastapi": ANCHOR,
    "vs_serve_default": "serve-default",
    "vs_litserve": "litserve",
    "vs_bentoml": "bentoml",
}


class Results:
    """Figures by round, contender and number of callers."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pairs: dict[Key, Pair] = {}

    def add(self, number: int, name: str, callers: int, mine: Measured, anchor: Measured) -> None:
        """Note what a contender did in a round, and what the anchor did beside it."""
        self._pairs[number, name, callers] = mine, anchor

    @property
    def names(self) -> list[str]:
        """Who was measured: the anchor, then others in the order of the first round."""
        return [ANCHOR, *dict.fromkeys(name for _, name, _ in self._pairs)]

    @property
    def callers(self) -> list[int]:
        """How many callers there were."""
        return sorted({callers for *_, callers in self._pairs})

    def median(self, name: str, callers: int) -> Measured:
        """Take the median of each figure over the rounds; the anchor's over all it stood beside."""
        place = 1 if name == ANCHOR else 0
        each = [
            pair[place]
            for (_, n, c), pair in self._pairs.items()
            if c == callers and name in (n, ANCHOR)
        ]
        of = {f.name: statistics.median(getattr(m, f.name) for m in each) for f in fields(Measured)}
        return Measured(**of)

    def ratio(self, figure: str, one: str, other: str, callers: int) -> float | None:
        """Take the median of a figure's ratios within rounds; None where one was not there.

        Each of the two is first divided by the anchor's figure beside it.
        """
        mine, theirs = (self._relative(figure, name, callers) for name in (one, other))
        found = [mine[number] / theirs[number] for number in mine.keys() & theirs.keys()]
        return round(statistics.median(found), 3) if found else None

    def _relative(self, figure: str, name: str, callers: int) -> dict[int, float]:
        """Divide a figure of each round by the anchor's; the anchor's own is one."""
        return {
            number: 1.0 if name == ANCHOR else getattr(mine, figure) / getattr(anchor, figure)
            for (number, n, c), (mine, anchor) in self._pairs.items()
            if c == callers and name in (n, ANCHOR)
        }

    def by_callers(self, figure: str, one: str, other: str) -> dict[str, float]:
        """Give the ratios of each number of callers."""
        ratios = {str(n): self.ratio(figure, one, other, n) for n in self.callers}
        return {number: ratio for number, ratio in ratios.items() if ratio is not None}

    def show(self) -> None:
        """Print medians, and ratios to the anchor."""
        print(
            f"{'':20} callers  requests/s   p50 ms   p99 ms  CPU µs  replica µs"
            f"   vs {ANCHOR}: requests/s  CPU  replica"
        )
        for name in self.names:
            for callers in self.callers:
                each = self.median(name, callers)
                figures = ("requests_per_s", "cpu_us", "cpu_replica_us")
                ratios = [self.ratio(figure, name, ANCHOR, callers) for figure in figures]
                shown = " ".join("      -" if r is None else f"{r:7.3f}" for r in ratios)
                print(
                    f"{name:20} {callers:7} {each.requests_per_s:11,.0f} {each.p50_ms:8.2f} "
                    f"{each.p99_ms:8.2f} {each.cpu_us:7,.0f} {each.cpu_replica_us:11,.0f}   {shown}"
                )

    def record(self) -> dict[str, Any]:
        """Give the ratios that are kept, and the medians that they come from."""
        ours = [name for name in self.names if CONTENDERS[name].is_ours]
        record: dict[str, Any] = {
            name: self.by_callers("requests_per_s", MAIN, peer) for name, peer in PEERS.items()
        }
        for figure in ("cpu_us", "cpu_replica_us", "p99_ms"):
            key = f"{figure.removesuffix('_us').removesuffix('_ms')}_vs_{ANCHOR}"
            record[key] = {name: self.by_callers(figure, name, ANCHOR) for name in ours}
        record["contenders"] = self.medians()
        return record

    def show_bulk(self) -> None:
        """Print the medians of bodies of many rows."""
        for name in self.names:
            for callers in self.callers:
                each = self.median(name, callers)
                cpu_us = each.cpu_us * each.requests_per_s / each.rows_per_s
                print(
                    f"{name:20} {callers:7} callers {each.rows_per_s:11,.0f} rows/s "
                    f"{cpu_us:8.1f} CPU µs a row"
                )

    def medians(self) -> dict[str, dict[str, dict[str, float]]]:
        """Give the medians of all figures by contender and number of callers."""
        return {
            name: {
                str(callers): {k: round(v, 2) for k, v in vars(self.median(name, callers)).items()}
                for callers in self.callers
            }
            for name in self.names
        }
