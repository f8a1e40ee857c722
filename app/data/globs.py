"""Match the names in a store against a glob, as the shell matches those on a disk.

Knows patterns and names; knows nothing of stores.
"""

import fnmatch
import re
from collections.abc import Sequence
from urllib.parse import unquote

# In a URI a question mark begins the query.
WILD = re.compile(r"[*\[]")
ESCAPED = re.compile(r"%(2A|3F|5B)", re.IGNORECASE)


def decoded(pattern: str) -> str:
    """Decode the path of a URI as a pattern: a wildcard that was written encoded is none.

    >>> decoded("day%201/a%5B1%5D*.csv")
    'day 1/a[[]1]*.csv'
    """
    return unquote(ESCAPED.sub(lambda escaped: f"[{unquote(escaped[0])}]", pattern))


def matches(name: str, pattern: str) -> bool:
    """Tell whether a name matches; `*` stays within a folder, `**` is any number of them.

    >>> matches("a/b/c.csv", "a/*.csv"), matches("a/b/c.csv", "a/**/*.csv")
    (False, True)
    """
    return _match(name.split("/"), pattern.split("/"))


def _match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_match(names[skipped:], patterns[1:]) for skipped in range(len(names) + 1))
    return (
        bool(names)
        and fnmatch.fnmatchcase(names[0], patterns[0])
        and _match(names[1:], patterns[1:])
    )
