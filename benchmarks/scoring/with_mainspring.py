"""Ours: jobs.score's own function on a Ray cluster of its own, with everything on.

Rows are validated against the contract, ids compared, tombstones asked, and every row comes out
stamped with its version, in files from which a run that is cut off goes on.
"""

import contextlib
import shutil
from pathlib import Path

from app.serving.batch import score
from app.serving.scoredsource import scoring_of
from app.serving.scoresinks import open_sink
from app.session import session
from benchmarks.harness.contenders import answer_commands
from benchmarks.scoring.described import config


def main() -> None:
    """Start a cluster at the first command, answer commands, and end it."""
    with contextlib.ExitStack() as stack:

        def act(rows: str, into: str, bundle: str) -> None:
            settings = config(Path(bundle).parent / "workspace")
            stack.enter_context(session(settings))
            shutil.rmtree(into, ignore_errors=True)
            result = score(scoring_of(settings, rows), open_sink(into))
            assert result.num_rejected == result.num_pieces_found == 0, result

        answer_commands(act)


if __name__ == "__main__":
    main()
