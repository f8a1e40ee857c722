"""Hand out secrets from the environment or from files that only their owner reads; never YAML.

Knows where a secret may come from; knows nothing of what it protects.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from pydantic import SecretBytes, SecretStr

from app.config import Config

PSEUDONYM_KEY_VARIABLE = "MAINSPRING_PSEUDONYM_KEY"
MINIMUM_KEY_BYTES = 16
NEW_KEY_BYTES = 32


class SecretError(ValueError):
    """A secret that cannot be used; the message never holds its value."""


def pseudonym_key(config: Config) -> SecretBytes:
    """Return the key of this workspace's pseudonyms; make one on first use.

    The environment variable MAINSPRING_PSEUDONYM_KEY (hexadecimal) wins; otherwise
    `<workspace>/keys/pseudonym.key`, created with mode 0600. Rows stay linkable only as long as the
    key stays. Raises SecretError for a key that is no hexadecimal, too short, or readable by
    others.
    """
    text = os.environ.get(PSEUDONYM_KEY_VARIABLE)
    if text is not None:
        return _decode(text, PSEUDONYM_KEY_VARIABLE)
    file = config.workspace / "keys" / "pseudonym.key"
    if not file.exists():
        _create(file)
    _refuse_open_permissions(file)
    return _decode(file.read_text(), str(file))


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
    _refuse_open_permissions(file)
    return SecretStr(file.read_text().strip())


def _decode(text: str, place: str) -> SecretBytes:
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


def _create(file: Path) -> None:
    """Write a new key aside and link it into place: of several processes the first wins."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as output:
            output.write(secrets.token_hex(NEW_KEY_BYTES))
            output.flush()
            os.fsync(output.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(aside, file)
    finally:
        aside.unlink()


def _refuse_open_permissions(file: Path) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise SecretError(f"{file}: mode {mode:04o} lets others read the key; run chmod 600 on it")
