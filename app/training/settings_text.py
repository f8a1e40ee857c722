"""Write values into the text of a configuration file: every other character stays as it is.

Knows YAML's marks, which say where a value stands in the text; knows nothing of what the settings
mean. What was written is read again: a text that does not say what it should is not given out.
"""

import io
from collections.abc import Mapping
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from app.sections.tuning import Scalar

STEP = 2
HEADING = "# Written anew: the settings are the same, comments and order could not be kept.\n"


def write_settings(text: str, values: Mapping[str, Any]) -> str:
    r"""Set dotted keys of a YAML document; comments, order and spelling of the rest are kept.

    Where the text cannot be changed in place (a value is an anchor that others share, or is itself
    a section), the whole document is written anew.

    >>> write_settings("a:\n  b: 1  # why\n  c: {d: 2}\n", {"a.b": 3, "a.c.e": 4})
    'a:\n  b: 3  # why\n  c: {d: 2, e: 4}\n'
    """
    wanted = _unshared(yaml.safe_load(text) or {})
    for key, value in values.items():
        set_dotted(wanted, key, value)
    changed = text if text.endswith("\n") else f"{text}\n"
    for key, value in values.items():
        changed = _write(changed, key.split("."), value)
    try:
        if yaml.safe_load(changed) == wanted:
            return changed
    except yaml.YAMLError:
        # The text has a form that this edit does not know; the document says the same without it.
        changed = ""
    return HEADING + yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True)


def _unshared(document: Any) -> Any:
    """Copy a document so that two uses of one anchor can be changed apart."""
    if isinstance(document, dict):
        return {key: _unshared(value) for key, value in document.items()}
    return [_unshared(value) for value in document] if isinstance(document, list) else document


def set_dotted(document: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a loaded document in place; sections that are absent come to be."""
    *sections, name = key.split(".")
    for section in sections:
        if not isinstance(document.get(section), dict):
            document[section] = {}
        document = document[section]
    document[name] = value


def _write(text: str, path: list[str], value: Any) -> str:
    """Set one key; the text comes back unchanged where its form is not known."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, MappingNode):
        return text
    mapping, depth = _deepest(root, path)
    rest = path[depth:]
    found = _child(mapping, rest[0])
    if found is None:
        return _insert(text, mapping, rest, value)
    replaceable = not isinstance(found, CollectionNode) or found.flow_style
    if len(rest) > 1 or not replaceable or found.start_mark.index == found.end_mark.index:
        return text
    return text[: found.start_mark.index] + _inline(value) + text[found.end_mark.index :]


def _deepest(root: MappingNode, path: list[str]) -> tuple[MappingNode, int]:
    """Follow a path as far as there are sections: the last one, and how many parts led there."""
    mapping, depth = root, 0
    while depth < len(path) - 1:
        child = _child(mapping, path[depth])
        if not isinstance(child, MappingNode):
            break
        mapping, depth = child, depth + 1
    return mapping, depth


def _child(mapping: MappingNode, name: str) -> Node | None:
    for key, value in mapping.value:
        if isinstance(key, ScalarNode) and key.value == name:
            found: Node = value
            return found
    return None


def _insert(text: str, mapping: MappingNode, rest: list[str], value: Any) -> str:
    """Add a key that is not there at the end of its section."""
    document: Any = value
    for name in reversed(rest):
        document = {name: document}
    if mapping.flow_style:
        # Before the brace that closes the section.
        at = mapping.end_mark.index - 1
        added = _inline(document)[1:-1]
        return text[:at] + (f", {added}" if mapping.value else added) + text[at:]
    indent = " " * mapping.start_mark.column
    lines = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, indent=STEP)
    block = "".join(f"{indent}{line}\n" for line in lines.splitlines())
    at = _end_of_line(text, _last_index(mapping))
    return text[:at] + block + text[at:]


def _last_index(node: Node) -> int:
    """Find where the last value of a section ends, without the comments and lines after it."""
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _last_index(last[1] if isinstance(node, MappingNode) else last)


def _end_of_line(text: str, index: int) -> int:
    # A block scalar ends where the next line begins; anything else within its line.
    if index and text[index - 1] == "\n":
        return index
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def _inline(value: Scalar | Mapping[str, Any]) -> str:
    """Write a value on one line, as it may stand within another."""
    output = io.StringIO()
    yaml.safe_dump(
        [value], output, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False
    )
    return output.getvalue().strip()[1:-1]
