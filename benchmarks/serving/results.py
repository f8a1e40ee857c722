"""Put rounds together: medians for people, and ratios within a round for the record."""

import statistics
from dataclasses import fields
from typing import Any

from benchmarks.serving.contenders import ANCHOR, CONTENDERS, MAIN
from benchmarks.serving.rounds import Measured

Key = tuple[int, str, int]
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
        self._measured: dict[Key, Measured] = {}

    def add(self, number: int, name: str, callers: int, measured: Measured) -> None:
        """Note what a contender did in a round."""
        self._measured[number, name, callers] = measured

    @property
    def names(self) -> list[str]:
        """Who was measured, in the order of the first round."""
        return list(dict.fromkeys(name for _, name, _ in self._measured))

    @property
    def callers(self) -> list[int]:
        """How many callers there were."""
        return sorted({callers for *_, callers in self._measured})

    def median(self, name: str, callers: int) -> Measured:
        """Take the median of each figure over the rounds."""
        each = [m for (_, n, c), m in self._measured.items() if (n, c) == (name, callers)]
        of = {f.name: statistics.median(getattr(m, f.name) for m in each) for f in fields(Measured)}
        return Measured(**of)

    def ratio(self, figure: str, one: str, other: str, callers: int) -> float | None:
        """Take the median of a figure's ratios within rounds; None where one was not there."""
        found = [
            getattr(mine, figure) / getattr(theirs, figure)
            for (number, name, c), mine in self._measured.items()
            if (name, c) == (one, callers)
            and (theirs := self._measured.get((number, other, callers))) is not None
        ]
        return round(statistics.median(found), 3) if found else None

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
