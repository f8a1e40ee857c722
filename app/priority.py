"""Let work that nobody waits for give way to whoever answers requests on the same cores.

Knows how the system is asked for the processor; knows nothing of what is worked on, or of Ray but
the name of one variable. Nothing here can be taken back without privileges.
"""

import os
from collections.abc import Mapping

from app.sections.running import Background

# The most there is: a seventieth of what a process of the usual priority gets, where both want the
# same core. At 10, a tenth, a training beside it made the slowest answers half as slow again.
NICE = 19
# Ray's workers set their own niceness from it when they start.
WORKER_NICENESS = "RAY_worker_niceness"


def give_way(how: Background) -> None:
    """Let this thread, and all threads and processes that it starts from now on, give way.

    `nice`: it gets a seventieth of a core that somebody else wants too. `idle`: it runs only where
    nobody else wants to, and what wakes up beside it runs at once. `equal`: no change.
    """
    if how == "equal":
        return
    # 0 is the calling thread, not its process: Linux counts niceness by thread.
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    if how == "idle" and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def worker_variables(how: Background) -> Mapping[str, str]:
    """Give the environment by which Ray's workers of a job give way from their first moment."""
    if how == "equal":
        return {}
    return {WORKER_NICENESS: str(NICE)}
