"""The peer: a plain loop of pyarrow and torch in two processes, with every other file each.

The processes stay from the warming on. This one only starts them, so that it weighs little.
"""

import importlib
import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.harness.contenders import answer_commands

NUM_PROCESSES = 2


def score_files(files: Sequence[str], into: str, bundle: str) -> None:
    """Score some files where torch is imported."""
    importlib.import_module("benchmarks.scoring.plain").score_files(files, into, bundle)


def main() -> None:
    """Start the processes, answer commands, and end them."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(NUM_PROCESSES, mp_context=spawn) as processes:

        def act(rows: str, into: str, bundle: str) -> None:
            shutil.rmtree(into, ignore_errors=True)
            Path(into).mkdir(parents=True)
            files = sorted(str(path) for path in Path(rows).glob("*.parquet"))
            shares = [files[i::NUM_PROCESSES] for i in range(NUM_PROCESSES)]
            given = [processes.submit(score_files, share, into, bundle) for share in shares]
            for each in given:
                each.result()

        answer_commands(act)


if __name__ == "__main__":
    main()
