"""Hand out secrets from the environment or from files that only their owner reads; never YAML.

Knows where a secret may come from; knows nothing of what it protects.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import NoReturn

from pydantic import SecretBytes, SecretStr

from app.config import Config

PSEUDONYM_KEY_VARIABLE = "MAINSPRING_PSEUDONYM_KEY"
MINIMUM_KEY_BYTES = 16
NEW_KEY_BYTES = 32


class SecretError(ValueError):
    """A secret that cannot be used; the message never holds its value."""


class StaysHere:
    """What holds a key. It is made where it is needed: it refuses to be sent to another process.

    What travels through a cluster may be written to disk on its way, by whoever carries it.
    """

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} holds a key, which does not travel; send the configuration and "
            "make it where it is needed"
        )


def pseudonym_key(config: Config) -> SecretBytes:
    """Return the key of this workspace's pseudonyms; make one on first use.

    The environment variable MAINSPRING_PSEUDONYM_KEY (hexadecimal) wins; otherwise
    `<workspace>/keys/pseudonym.key`, created with mode 0600. Rows stay linkable only as long as the
    key stays. Raises SecretError for a key that is no hexadecimal, too short, or readable by
    others.
    """
    text = os.environ.get(PSEUDONYM_KEY_VARIABLE)
    if text is not None:
        return decode_key(text, PSEUDONYM_KEY_VARIABLE)
    file = config.workspace / "keys" / "pseudonym.key"
    if not file.exists():
        create_secret_file(file, secrets.token_hex(NEW_KEY_BYTES))
    refuse_open_permissions(file)
    return decode_key(file.read_text(), str(file))


def named_secret(variable: str) -> SecretStr:
    """Return a secret text from an environment variable, or from the file that `NAME_FILE` names.

    Raises SecretError when neither is set, or when others may read the file.
    """
    text = os.environ.get(variable)
    if text:
        return SecretStr(text)
    named = os.environ.get(f"{variable}_FILE")
    if not named:
        raise SecretError(f"{variable}: is not set; set it, or {variable}_FILE to a file's path")
    file = Path(named)
    if not file.is_file():
        raise SecretError(f"{variable}_FILE: no file {file}")
    refuse_open_permissions(file)
    return SecretStr(file.read_text().strip())


def decode_key(text: str, place: str) -> SecretBytes:
    """Read a key from hexadecimal text; `place` says in an error where it came from."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        raise SecretError(f"{place}: the key must be hexadecimal digits") from None
    if len(key) < MINIMUM_KEY_BYTES:
        raise SecretError(
            f"{place}: the key must have at least {MINIMUM_KEY_BYTES} bytes "
            f"({2 * MINIMUM_KEY_BYTES} hexadecimal digits), got {len(key)} bytes"
        )
    return SecretBytes(key)


def create_secret_file(file: Path, content: str) -> None:
    """Write a secret aside and link it into place: of several processes the first wins."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = _write_aside(file, content)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(aside, file)
    finally:
        aside.unlink()
    _sync(file.parent)


def replace_secret_file(file: Path, content: str) -> None:
    """Write a secret aside and rename it into place, at once and for good."""
    _write_aside(file, content).replace(file)
    _sync(file.parent)


def refuse_open_permissions(file: Path) -> None:
    """Raise SecretError for a file that others than its owner may read."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise SecretError(f"{file}: mode {mode:04o} lets others read the key; run chmod 600 on it")


def _write_aside(file: Path, content: str) -> Path:
    aside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    return aside


def _sync(folder: Path) -> None:
    """Make what was linked or renamed in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
