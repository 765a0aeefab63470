"""Tables in CSV, as spreadsheets read and write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stepgrader.differences import printable

__all__ = ["as_csv", "read_csv"]

BYTE_ORDER_MARK = "\ufeff"
# Where a formula begins: a spreadsheet may take ";" for the separator, even within quotes.
FORMULA = re.compile(r'(^|;)(?=[\s"]*[=+\-@＝＋－＠])')
MAX_CELL = 2000  # characters


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    r"""Return a table as CSV with a byte order mark.

    Without the mark, Excel reads a file in the encoding of the system's language, which garbles
    Korean names. No spreadsheet takes a cell for a formula.

    Example:
        >>> as_csv([("name", "points"), ("박지호", 7), ("=1+1", 0)])
        "\ufeffname,points\n박지호,7\n'=1+1,0\n"
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return BYTE_ORDER_MARK + text.getvalue()


def read_csv(path: Path) -> str:
    """Return the text of a table in UTF-8, or in the encoding of Excel in Korea.

    Raises:
        OSError: The file can't be read.
        ValueError: It is in another encoding.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "class.csv")
        ...     length = path.write_bytes("학번,이름".encode("cp949"))
        ...     read_csv(path)
        '학번,이름'
    """
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError(f"{path}: expected CSV in UTF-8, got another encoding")


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return FORMULA.sub(r"\1'", printable(value, limit=MAX_CELL))
