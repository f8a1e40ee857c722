"""Build HTML and SVG from values, escaping whatever is not markup already.

Knows tags and characters; knows nothing of pages, plots or models.
"""

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is safe in a page as it stands: made by `tag`, `join` and constants of ours."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Write an element; plain strings among its children are escaped, attributes always.

    A trailing underscore frees Python's words (`class_`), other underscores become hyphens; an
    attribute that is None or False is left out, and floats keep one decimal, enough for a pixel.

    >>> tag("p", "a < b", tag("b", "!"), class_="note", x=1.25)
    '<p class="note" x="1.2">a &lt; b<b>!</b></p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Markup:
    """Put pieces after one another, escaping those that are no markup."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c, quote=False) for c in children))


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)
