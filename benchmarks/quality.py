"""Quality on real tables: ours beside LightGBM and XGBoost, with default and with tuned settings.

Same columns, same rows, the same stop rows and calibrator for all; in order of time where a table
has one, otherwise five fixed folds. Defaults are what a stranger gets: of the libraries their own,
of ours what jobs.init proposes for so many rows. Tuned is the best of as many trials for each,
chosen by the stop loss of the first fold. Trials and folds are remembered under .cache/quality, so
that the same command goes on after an interruption. The last line is one JSON record.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import optuna
import torch
import typer
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.tabular.contenders import Contender
from benchmarks.tabular.ours import OurFitWithTabM, Ours
from benchmarks.tabular.ranks import FIGURES, Figures, figures_of, mean_ranks
from benchmarks.tabular.results import Results, code_digest
from benchmarks.tabular.sets import NUM_FOLDS, SETS, load_set
from benchmarks.tabular.trees import LightGBM, XGBoost
from benchmarks.tabular.tuning import Bench

ROOT = Path(__file__).resolve().parent.parent
LEARNERS: tuple[Contender, ...] = (Ours(), LightGBM(), XGBoost())
WAYS = ("default", "tuned")
CONTENDERS = tuple(f"{learner.name} {way}" for learner in LEARNERS for way in WAYS)
# Only when it is named, and its package is there: pip install tabm.
BESIDE: tuple[Contender, ...] = (OurFitWithTabM(),)
KNOWN = (*CONTENDERS, *(f"{learner.name} {way}" for learner in BESIDE for way in WAYS))
CACHE = ROOT / ".cache" / "quality"
SHARED = ("benchmarks/tabular/sets.py", "app/model/platt.py")
OURS = (
    "benchmarks/tabular/ours.py",
    "app/data/features.py",
    "app/model/networks.py",
    "app/model/tasks.py",
    "app/training/assembly.py",
    "app/training/averaging.py",
    "app/training/fitting.py",
    "app/training/state.py",
)
TREES = ("benchmarks/tabular/trees.py",)
TABM = (*OURS, "benchmarks/tabular/tabm_net.py")
# What decides a contender's results, beside its settings.
SOURCES = {
    name: [ROOT / file for file in (*SHARED, *own)]
    for name, own in (("mainspring", OURS), ("lightgbm", TREES), ("xgboost", TREES), ("tabm", TABM))
}
console = Console(width=140)


def main(
    sets: Annotated[str, typer.Option(help="Tables, parted by commas.")] = ",".join(SETS),
    contenders: Annotated[str, typer.Option(help="Likewise.")] = ",".join(CONTENDERS),
    trials: Annotated[int, typer.Option(min=1, help="Trials of every tuned contender.")] = 15,
    folds: Annotated[int, typer.Option(min=1, max=NUM_FOLDS, help="Of tables without time.")] = 5,
    fresh: Annotated[bool, typer.Option(help="Forget what is remembered of these tables.")] = False,
) -> None:
    """Run every contender on every table; print figures with intervals, ranks, a JSON record."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    wanted = _known(contenders, KNOWN)
    by_set: dict[str, dict[str, Figures]] = {}
    seconds = dict.fromkeys(wanted, 0.0)
    for name in _known(sets, tuple(SETS)):
        if fresh:
            (CACHE / f"{name}.jsonl").unlink(missing_ok=True)
        by_set[name], spent = run_set(name, wanted, trials, folds)
        seconds = {each: seconds[each] + spent[each] for each in wanted}
        show_set(name, by_set[name], spent)
    ranks = mean_ranks(by_set)
    show_ranks(ranks, seconds)
    record = {
        "mean_rank": {each: round(rank, 3) for each, (rank, _, _) in ranks.items()},
        "mean_rank_interval": {
            e: [round(x, 3) for x in (lo, hi)] for e, (_, lo, hi) in ranks.items()
        },
        "auc": {
            name: {each: round(float(figures.point[0]), 4) for each, figures in found.items()}
            for name, found in by_set.items()
        },
        "cpu_s": {each: round(spent, 1) for each, spent in seconds.items()},
        "trials": trials,
    }
    print(json.dumps(record))


def run_set(
    name: str, wanted: list[str], trials: int, folds: int
) -> tuple[dict[str, Figures], dict[str, float]]:
    """Run the contenders on one table; give their figures and CPU seconds."""
    tabular, results = load_set(name), Results(CACHE / f"{name}.jsonl")
    figures, spent = {}, {}
    for learner in (*LEARNERS, *BESIDE):
        code = code_digest(*SOURCES[learner.name])
        bench = Bench(tabular, learner, results, code, say)
        for way in WAYS:
            label = f"{learner.name} {way}"
            if label not in wanted:
                continue
            settings, seconds = learner.default(bench.num_known), 0.0
            if way == "tuned":
                settings, seconds = bench.tuned(trials)
            records = list(bench.folds(label, settings, folds))
            figures[label] = figures_of([bench.predicted(record) for record in records])
            spent[label] = seconds + sum(record["cpu_s"] for record in records)
    return figures, spent


def show_set(name: str, figures: dict[str, Figures], spent: dict[str, float]) -> None:
    """Print a table's figures with 90 % intervals."""
    table = Table(title=f"{name}: mean over folds, 90 % intervals over rows")
    for heading in ("contender", *FIGURES, "CPU s"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for label, found in figures.items():
        cells = ["{:.4f} ({:.4f}–{:.4f})".format(*found.interval(each)) for each in FIGURES]
        table.add_row(label, *cells, f"{spent[label]:.1f}")
    console.print(table)


def show_ranks(ranks: dict[str, tuple[float, float, float]], seconds: dict[str, float]) -> None:
    """Print the mean ranks, the best first."""
    table = Table(title="mean rank by ROC-AUC, 90 % intervals over rows")
    for heading in ("contender", "mean rank", "CPU s"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for label, (rank, low, high) in sorted(ranks.items(), key=lambda item: item[1]):
        table.add_row(label, f"{rank:.2f} ({low:.2f}–{high:.2f})", f"{seconds[label]:.1f}")
    console.print(table)


def say(progress: str) -> None:
    """Tell a person how far it is."""
    print(progress, file=sys.stderr, flush=True)


def _known(text: str, names: tuple[str, ...]) -> list[str]:
    given = [name.strip() for name in text.split(",")]
    if unknown := sorted(set(given) - set(names)):
        raise typer.BadParameter(f"got {', '.join(unknown)}; known are {', '.join(names)}")
    return [name for name in names if name in given]


if __name__ == "__main__":
    typer.run(main)
