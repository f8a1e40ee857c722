"""Set up a process that does nothing but serve: the threads and the memory of its libraries."""

import pyarrow as pa
import torch


def settle() -> None:
    """Let one thread compute, and let memory of Arrow go when it is free."""
    # On shared cores a second thread costs more than it gives for a few hundred rows.
    torch.set_num_threads(1)
    # Arrow's own allocator keeps what bodies of all sizes took on many threads: a twentieth of a
    # replica's memory after 100,000 of them.
    pa.set_memory_pool(pa.system_memory_pool())
