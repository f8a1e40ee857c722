"""Load versions beside the thread that follows the roles: one that hangs holds nobody up.

Knows threads and digests; knows nothing of bundles, roles or SQL.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Loaded = TypeVar("Loaded")
# Most versions are there within it, and then a switch needs no second look.
PATIENCE_SECONDS = 0.5


class StillLoading(Exception):
    """The version is not there yet; ask again."""


class Loading(Generic[Loaded]):
    """Calls a function for a digest in a thread of its own, never twice at the same time.

    To be asked by one thread. What hangs keeps its thread until the process ends; since it is never
    asked for again meanwhile, there is at most one for each version.
    """

    def __init__(
        self, load: Callable[[str], Loaded], patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Whoever asks first waits for so long; who asks again does not wait."""
        self._load, self._patience = load, patience_seconds
        self._under_way: dict[str, Future[Loaded]] = {}

    def get(self, digest: str) -> Loaded:
        """Give what was loaded, once. Raises StillLoading, or what the function raised."""
        future, patience = self._under_way.get(digest), 0.0
        if future is None:
            future, patience = self._start(digest), self._patience
        try:
            # What the function raises may be a TimeoutError too.
            error = future.exception(patience)
        except TimeoutError:
            raise StillLoading(digest) from None
        del self._under_way[digest]
        if error is not None:
            raise error
        return future.result()

    def _start(self, digest: str) -> "Future[Loaded]":
        future: Future[Loaded] = Future()

        def run() -> None:
            try:
                future.set_result(self._load(digest))
            # Raised again where it is asked for.
            except BaseException as error:
                future.set_exception(error)

        self._under_way[digest] = future
        threading.Thread(target=run, name=f"load {digest[:12]}", daemon=True).start()
        return future
