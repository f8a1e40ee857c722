"""Take a sealed SQLite file apart page by page, with its key: what was deleted would show here.

A page of SQLCipher 4 is 4096 bytes: the content, encrypted by AES-256-CBC, then 16 bytes of
initialisation vector and 64 of HMAC. The first 16 bytes of a file are its salt.
"""

from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC

from app.data.storekeys import StoreKeys
from app.security.keyring import Keyring

PAGE, RESERVED, SALT, VECTOR = 4096, 80, 16, 16
WAL_HEAD, FRAME_HEAD = 32, 24


def every_page(path: Path, keyring: Keyring) -> bytes:
    """Decrypt every page of a store and of its log, whether or not it is in use."""
    content, log = path.read_bytes(), path.with_name(f"{path.name}-wal")
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    frames = log.read_bytes()[WAL_HEAD:] if log.exists() else b""
    step = FRAME_HEAD + PAGE
    logged = [frames[at : at + step] for at in range(0, len(frames), step)]
    numbered = [(number, page) for number, page in enumerate(pages, 1)]
    numbered += [(int.from_bytes(f[:4], "big"), f[FRAME_HEAD:]) for f in logged if len(f) == step]
    return b"".join(
        opened(page, number, key)
        for key in StoreKeys(path, keyring).read()
        for number, page in numbered
    )


def opened(page: bytes, number: int, key: bytes) -> bytes:
    """Decrypt one page."""
    start = SALT if number == 1 else 0
    vector = page[PAGE - RESERVED : PAGE - RESERVED + VECTOR]
    decryptor = Cipher(AES256(key), CBC(vector)).decryptor()
    return decryptor.update(page[start : PAGE - RESERVED]) + decryptor.finalize()
