"""Connect to the store that a URI names: S3, GCS or Azure, for pyarrow and for Delta tables alike.

Credentials and endpoints come from the environment, by the names that the stores' own tools have
for them; a URI that holds credentials is refused. Knows URIs and the environment; knows nothing of
what is in a store.
"""

import functools
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

from app.data.pieces import SourceError

URI = re.compile(r"[a-z][a-z0-9+.-]+://")
AZURE = ("az", "abfs", "abfss")
AZURE_HOST = re.compile(r"([a-z0-9]+)\.(?:dfs|blob)\.core\.windows\.net")
# What Google's clients are told for buckets that everybody may read.
ANONYMOUS = "anonymous"
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    **dict.fromkeys(AZURE, "AZURE_STORAGE_ACCOUNT_KEY"),
}
# So long is a store asked again that does not answer; pyarrow's own default for GCS is 15 minutes.
RETRY_SECONDS = 30
# An answer's query may hold a signature, and a URI's what only the store is told.
QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*")
COLOUR = re.compile(r"\x1b\[\d+m")
MAX_ERROR = 200


class Store(NamedTuple):
    """A store as pyarrow sees it, and the bucket's path in it."""

    files: pafs.FileSystem
    bucket: str


class Service(NamedTuple):
    """An account of Azure, and the blob service that holds it: scheme and authority."""

    account: str
    scheme: str
    authority: str


def connect(uri: str) -> Store:
    """Return the store of a URI and its bucket.

    Raises SourceError for credentials in the URI, and for a store that cannot be named.
    """
    parts = _checked(uri)
    try:
        # The bucket alone: a client is made, and its region looked up, once.
        return _connect(parts.scheme, parts.netloc, parts.query)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{shown(uri)}: {first_line(error)}") from error


def delta_place(given: str) -> tuple[str, dict[str, str]]:
    """Return the folder or URI of a Delta table as its library takes it, and its options.

    What the URI's query and the environment tell pyarrow is told to it in its own words. Raises
    SourceError as connect does.
    """
    if not URI.match(given):
        return given, {}
    parts = _checked(given)
    # Its files are read by pyarrow, which knows what may be asked.
    connect(given)
    if parts.scheme in AZURE:
        _, service = _azure(parts)
        plain = {"allow_http": "true"} if service.scheme == "http" else {}
        # The endpoint itself it reads from the environment.
        return given, {"azure_storage_account_name": service.account, **plain}
    asked, options = _queried(parts), {}
    endpoint = _endpoint(asked)
    if endpoint:
        options["google_base_url" if parts.scheme == "gs" else "aws_endpoint_url"] = endpoint
    elif parts.scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith("http:"):
        # It was asked for by name; to pyarrow that is enough.
        options["allow_http"] = "true"
    if parts.scheme == "gs" and _is_anonymous(parts):
        options["google_skip_signature"] = "true"
    if parts.scheme == "s3" and "region" in asked:
        options["aws_region"] = asked["region"]
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="")), options


def shown(path: str) -> str:
    """Name a file in messages: without the query and the credentials of a URI."""
    if not URI.match(path):
        return path
    parts = urlsplit(path)
    user, _, host = parts.netloc.rpartition("@")
    # In the URIs of Azure the container stands where others have a user.
    container = user.partition(":")[0] if parts.scheme in AZURE else ""
    place = f"{container}@{host}" if container else host
    return f"{parts.scheme}://{place}{unquote(parts.path)}"


def first_line(error: Exception) -> str:
    r"""Cut an error of another library to one readable line, without the queries of addresses.

    >>> first_line(OSError("no https://host/a?sig=x\nmore"))
    'no https://host/a'
    """
    causes = [_plain(cause) for cause in COLOUR.sub("", str(error)).split("↳")]
    # The last cause may be an answer's body, in XML or JSON.
    told = [cause for cause in causes if cause and not cause.startswith(("<", "{"))]
    if not told:
        return type(error).__name__
    return (told[0] if len(told) == 1 else f"{told[0]}: {told[-1]}")[:MAX_ERROR]


def _plain(text: str) -> str:
    line = (text.strip().splitlines() or [""])[0]
    # What Google's client adds for machines.
    return QUERY.sub(r"\1", line.partition(" error_info=")[0])


def _checked(uri: str) -> SplitResult:
    """Divide a URI, and refuse what must not be in it."""
    parts = urlsplit(uri)
    named = parts.scheme in AZURE or (parts.scheme == "gs" and parts.username == ANONYMOUS)
    if parts.password is not None or (parts.username and not named):
        raise SourceError(
            f"{shown(uri)}: holds credentials; set them in the environment instead, "
            f"e.g. {CREDENTIALS.get(parts.scheme, CREDENTIALS['s3'])}"
        )
    if parts.fragment:
        raise SourceError(f"{shown(uri)}: # begins a fragment; write %23 for one in a name")
    if parts.scheme in AZURE and parts.query:
        raise SourceError(
            f"{shown(uri)}: Azure's URIs take no query; set AZURE_STORAGE_ENDPOINT, "
            "AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_ACCOUNT_KEY instead"
        )
    return parts


@functools.lru_cache(maxsize=64)
def _connect(scheme: str, netloc: str, query: str) -> Store:
    parts = SplitResult(scheme, netloc, "/", query, "")
    if scheme in AZURE:
        container, service = _azure(parts)
        return Store(_azure_files(service), container)
    if scheme == "gs":
        bucket = netloc.rpartition("@")[2]
        name = f"{ANONYMOUS}@{bucket}" if _is_anonymous(parts) else bucket
        asked = {"retry_limit_seconds": str(RETRY_SECONDS), **_queried(parts)}
        parts = parts._replace(netloc=name, query=urlencode(asked))
    files, bucket = pafs.FileSystem.from_uri(urlunsplit(parts))
    return Store(files, bucket.rstrip("/"))


def _queried(parts: SplitResult) -> dict[str, str]:
    """Give what a store is told by the query; for GCS also by the variable of its emulators."""
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    emulator = os.environ.get("STORAGE_EMULATOR_HOST") if parts.scheme == "gs" else None
    if not emulator:
        return asked
    host = emulator if URI.match(emulator) else f"http://{emulator}"
    scheme, _, authority = host.rstrip("/").partition("://")
    return {"scheme": scheme, "endpoint_override": authority, **asked}


def _endpoint(asked: Mapping[str, str]) -> str:
    """Give the endpoint that a query names, with its scheme; empty: none."""
    named = asked.get("endpoint_override", "")
    return named if not named or URI.match(named) else f"{asked.get('scheme', 'https')}://{named}"


def _is_anonymous(parts: SplitResult) -> bool:
    return parts.username == ANONYMOUS or bool(os.environ.get("STORAGE_EMULATOR_HOST"))


def _azure(parts: SplitResult) -> tuple[str, Service]:
    """Return the container and the service of a URI: container, or container@account.host."""
    container, _, host = parts.netloc.rpartition("@")
    named = AZURE_HOST.fullmatch(host) if container else None
    account = named[1] if named else os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if bool(container) != bool(named) or "." in (container or host):
        raise SourceError(
            f"{shown(urlunsplit(parts))}: is no place in Azure; write az://CONTAINER/PATH, or "
            "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH"
        )
    if not account:
        raise SourceError(
            f"{shown(urlunsplit(parts))}: names no account; set AZURE_STORAGE_ACCOUNT_NAME"
        )
    endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT") or _blob_service(account)
    return container or host, _service(account, endpoint)


def _blob_service(account: str) -> str:
    return f"https://{account}.blob.core.windows.net"


def _service(account: str, endpoint: str) -> Service:
    """Read an endpoint, in which the account is the first part of the host or the path."""
    parts = urlsplit(endpoint)
    path = parts.path.strip("/")
    if parts.scheme in ("http", "https") and parts.netloc.startswith(f"{account}.") and not path:
        return Service(account, parts.scheme, parts.netloc.removeprefix(account))
    if parts.scheme in ("http", "https") and parts.netloc and path == account:
        return Service(account, parts.scheme, parts.netloc)
    raise SourceError(
        f"AZURE_STORAGE_ENDPOINT must be https://{account}.HOST or https://HOST/{account}, "
        f"got {endpoint}"
    )


def _azure_files(service: Service) -> pafs.FileSystem:
    """Make the client of an account; without a key or a token Azure's own chain finds some."""
    key = os.environ.get("AZURE_STORAGE_ACCOUNT_KEY")
    token = os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    return pafs.AzureFileSystem(
        service.account,
        account_key=key or None,
        # It is put at the end of an address as it is.
        sas_token=None if key or not token else f"?{token.removeprefix('?')}",
        blob_storage_authority=service.authority,
        dfs_storage_authority=service.authority.replace(".blob.", ".dfs."),
        blob_storage_scheme=service.scheme,
        dfs_storage_scheme=service.scheme,
    )
