"""Find the pieces of the files that a job over rows is given.

Knows files and the columns of a contract; knows nothing of Ray or of what is done with rows.
"""

from app.contracts.rows import Contract
from app.data.files import ENDINGS, FileKind, Piece, as_they_are, find_files, open_pieces
from app.data.inline import Inline
from app.data.stores import shown
from app.data.validation import DERIVED


def find_pieces(
    rows: str, contract: Contract, inline: Inline | None = None, delimiter: str = ","
) -> list[Piece]:
    """Find the pieces of a file, a folder of Parquet or a glob; CSV by its ending.

    With `inline` they look like the source's own files. Raises SourceError for what cannot be read,
    before anything is done with it.
    """
    # A URI's query is no part of its ending.
    kind: FileKind = "csv" if shown(rows).endswith(ENDINGS["csv"]) else "parquet"
    pieces: dict[tuple[str, int], Piece] = {}
    wanted, optional = contract.schema.names, list[str](DERIVED)
    forbidden = contract.forbidden_names
    naming = inline.names if inline else as_they_are
    if inline is not None:
        wanted, optional = inline.wanted, [*inline.optional, *DERIVED]
    for file in find_files(rows, kind):
        for piece in open_pieces(
            file.path, kind, wanted, optional, forbidden, naming=naming, delimiter=delimiter
        ):
            # The same bytes under two names are read once.
            pieces.setdefault((piece.digest, piece.row_group), piece)
    return list(pieces.values())
