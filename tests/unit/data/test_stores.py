"""How a store is named and reached: URIs, their queries, the environment, credentials."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from deltalake import write_deltalake

from app.contracts.rows import Column, Contract
from app.data import stores
from app.data.deliveries import nowhere
from app.data.files import Layout, find_files, open_pieces, read_piece
from app.data.growing import new_files
from app.data.inputs import find_pieces
from app.data.pieces import SourceError
from app.data.stores import delta_place, first_line, shown
from tests.object_stores import ACCOUNT, ACCOUNT_KEY, EVERY_STORE, STORES, ObjectStore, address_of

ONE_ROW = Layout(["id"])


@pytest.fixture(autouse=True)
def _fresh_clients() -> Iterator[None]:
    stores._connect.cache_clear()
    yield
    stores._connect.cache_clear()


@pytest.fixture(scope="module", params=EVERY_STORE)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """A store with a file and a table of one row each."""
    with STORES[request.param]() as running:
        table = tmp_path_factory.mktemp("table")
        write_deltalake(str(table), pa.table({"id": ["b"]}))
        running.put("rows/a.csv", b"id\na\n")
        running.copy(table, "table")
        yield running


def read(root: str, query: str = "") -> list[str]:
    """Read the ids of the file and of the table; whatever is asked for, names are plain."""
    (file,) = find_files(f"{root}/rows{query}", "csv")
    (delivery,), _ = new_files(f"{root}/table{query}", None, ONE_ROW, nowhere)
    plain = root.replace("anonymous@", "")
    assert shown(file.path) == f"{plain}/rows/a.csv"
    assert delivery.name.startswith(f"{plain}/table/part-")
    assert delivery.name.endswith(".parquet")
    pieces = [*open_pieces(file.path, "csv", ["id"]), *delivery.pieces]
    return [cell for piece in pieces for cell in read_piece(piece).table["id"].to_pylist()]


def use(monkeypatch: pytest.MonkeyPatch, store: ObjectStore, *left_out: str) -> None:
    for name, value in store.environment.items():
        if name not in left_out:
            monkeypatch.setenv(name, value)


def test_a_store_is_found_by_its_environment(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, store)
    assert read(store.root) == ["a", "b"]


@pytest.mark.parametrize("store", [pytest.param("s3", marks=pytest.mark.s3)], indirect=True)
def test_an_endpoint_of_s3_may_stand_in_the_query(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, store, "AWS_ENDPOINT_URL", "AWS_REGION")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    query = urlencode({"region": "eu-central-1", "endpoint_override": address_of(store)})
    assert read(store.root, f"?scheme=http&{query}") == ["a", "b"]


@pytest.mark.parametrize("store", [pytest.param("gcs", marks=pytest.mark.gcs)], indirect=True)
def test_an_endpoint_of_gcs_may_stand_in_the_query(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    query = f"?scheme=http&endpoint_override={address_of(store)}&retry_limit_seconds=5"
    assert read("gs://anonymous@shop", query) == ["a", "b"]
    columns = (Column(name="id", kind="identifier"), Column(name="at", kind="time"))
    contract = Contract(id="id", event_time="at", label="y", columns=columns)
    store.put("more/c.csv", b"id,at\nc,2024-03-01T10:00:00Z\n")
    (piece,) = find_pieces(f"gs://anonymous@shop/more/c.csv{query}", contract)
    assert read_piece(piece).table["id"].to_pylist() == ["c"]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address_of(store))
    assert read("gs://shop") == ["a", "b"]


@pytest.mark.parametrize("store", [pytest.param("azure", marks=pytest.mark.azure)], indirect=True)
@pytest.mark.parametrize(
    "root", ["az://shop", "abfs://shop", f"abfss://shop@{ACCOUNT}.dfs.core.windows.net"]
)
def test_a_container_of_azure_has_several_names(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    use(monkeypatch, store, *(["AZURE_STORAGE_ACCOUNT_NAME"] if "@" in root else []))
    assert read(root) == ["a", "b"]


@pytest.mark.parametrize("store", [pytest.param("azure", marks=pytest.mark.azure)], indirect=True)
def test_azure_takes_a_token_and_refuses_a_wrong_key(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, store, "AZURE_STORAGE_ACCOUNT_KEY")
    # With a question mark and without one, as tools print it.
    for token in (f"?{signed_token()}", signed_token()):
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", token)
        stores._connect.cache_clear()
        assert read(store.root) == ["a", "b"]
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"another key").decode())
    stores._connect.cache_clear()
    with pytest.raises(SourceError, match=r"^az://shop/rows: .*403|^az://shop/rows: .*[Aa]uth"):
        read(store.root)


def signed_token() -> str:
    """Make a shared access signature of the account: read and list, for an hour.

    What is signed, and in which order: Microsoft, "Create an account SAS", version 2020-12-06.
    """
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sp": "rl", "ss": "b", "srt": "sco", "st": "", "se": until, "sip": ""}
    fields |= {"spr": "https,http", "sv": "2020-12-06", "ses": ""}
    text = "\n".join([ACCOUNT, *fields.values(), ""])
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    known = {name: value for name, value in fields.items() if value}
    return urlencode({**known, "sig": base64.b64encode(digest).decode()})


class Listening(BaseHTTPRequestHandler):
    """Note who asks, and know nothing."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization", ""))
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_key_file_of_google_signs_what_both_clients_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {"type": "service_account", "project_id": "p", "private_key_id": "k", "client_id": ""}
    account |= {"private_key": pem, "client_email": "reader@p", "token_uri": "http://127.0.0.1:1"}
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    Listening.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Listening) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        query = f"?scheme=http&endpoint_override=127.0.0.1:{server.server_port}"
        with pytest.raises(SourceError, match="no bucket or container shop"):
            find_files(f"gs://shop/rows{query}", "csv")
        of_files = list(Listening.asked)
        with pytest.raises(SourceError, match="gs://shop/table: "):
            new_files(f"gs://shop/table{query}", None, ONE_ROW, nowhere)
        of_tables = Listening.asked[len(of_files) :]
        server.shutdown()
    for asked in (of_files, of_tables):
        assert asked
        assert all(each.startswith("Bearer ") for each in asked)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://someone:hush@shop/rows",
        "s3://hush@shop/rows",
        "gs://hush@shop/rows",
        "gs://anonymous:hush@shop/rows",
        f"abfss://shop:hush@{ACCOUNT}.dfs.core.windows.net/rows",
        "az://shop/rows?sv=2020-12-06&sig=hush",
        "s3://shop/rows?secret_key=hush",
        "gs://shop/rows?access_token=hush",
        "ftp://shop/rows?secret_key=hush",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    for ask in (
        lambda: find_files(uri, "csv"),
        lambda: new_files(uri, None, ONE_ROW, nowhere),
    ):
        with pytest.raises(SourceError) as caught:
            ask()
        assert "hush" not in str(caught.value)


def test_a_uri_that_cannot_be_meant_is_refused_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    for uri, cure in {
        "s3://shop/a#b.csv": "write %23",
        "az://shop/a": "set AZURE_STORAGE_ACCOUNT_NAME",
        "abfss://keeper.blob.core.windows.net/shop/a": "write az://CONTAINER/PATH",
        "abfss://shop@keeper.example.org/a": "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net",
    }.items():
        with pytest.raises(SourceError, match=cure):
            find_files(uri, "csv")


@pytest.mark.parametrize(
    ("endpoint", "authority"),
    [
        (None, ".blob.core.windows.net"),
        ("https://keeper.blob.core.chinacloudapi.cn/", ".blob.core.chinacloudapi.cn"),
        ("http://127.0.0.1:10000/keeper", "127.0.0.1:10000"),
    ],
)
def test_an_endpoint_of_azure_names_the_account(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, authority: str
) -> None:
    assert stores._service("keeper", endpoint or stores._blob_service("keeper")) == (
        "keeper",
        "http" if "127" in authority else "https",
        authority,
    )


@pytest.mark.parametrize("endpoint", ["keeper.example.org", "https://other.example.org", "ftp://"])
def test_an_endpoint_of_another_account_is_refused(endpoint: str) -> None:
    with pytest.raises(SourceError, match="AZURE_STORAGE_ENDPOINT must be https://keeper"):
        stores._service("keeper", endpoint)


def test_a_table_is_asked_for_where_its_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert delta_place("tables/a") == ("tables/a", {})
    assert delta_place("s3://shop/a?region=eu-west-1&endpoint_override=minio.example.org") == (
        "s3://shop/a",
        {"aws_endpoint_url": "https://minio.example.org", "aws_region": "eu-west-1"},
    )
    assert delta_place("gs://anonymous@shop/a") == (
        "gs://shop/a",
        {"google_skip_signature": "true"},
    )


def test_an_error_is_one_line_with_its_last_cause() -> None:
    kernel = "Kernel error -> S3\n  \x1b[31m↳\x1b[0m GET http://h/?sig=x\n  \x1b[31m↳\x1b[0m 404\n"
    body = "    \x1b[31m↳\x1b[0m <?xml?>\n<Error>"
    assert first_line(OSError(kernel + body)) == "Kernel error -> S3: 404"
    assert first_line(OSError("")) == "OSError"
    assert first_line(OSError("no gs://a/b?token=c, or 'gs://a?b'")) == "no gs://a/b or 'gs://a'"
