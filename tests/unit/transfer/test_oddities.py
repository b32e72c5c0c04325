# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The tables of oddities and damage in ``docs/data-path.md``, in every format, storage and position in the file."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DamagedDownload, ExportRefused
from airflow_provider_isvapp.transfer.destination import Destination, local_destination
from airflow_provider_isvapp.transfer.results import WriteResult
from tests.support import ROOT
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, export_row, gzip_bytes
from tests.support.object_stores import in_s3, s3_client

MONTHS = ("2024-02", "2024-03")
ROWS = [export_row(number, MONTHS[number % 2]) for number in range(9)]
PLACES = {"first": 0, "middle": 4, "last": 8}
FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "full": {"validate": "full"},
    "gzip": {"compression": "gzip"},
    "parquet": {"output_format": "parquet"},
    "by month": {"partition_by": "reference_date"},
}
NAUGHTY = (
    "undefined", "NULL", "true", "NaN", "-1e+5", "0x0", "1,000.00", "<script>alert(1)</script>", "' OR 1=1 --",
    "$(touch /tmp/x)", "../../etc/passwd%00", "{{ 7 * 7 }}", "%s%n", "\\", '"', "}\n{", "\r\n", "\t", "\x00", "\x7f",
    "\u2028\u2029", "\ufeff", "\u200b\u202e", "\ufffd\ufffe", "\U0001f468\u200d\U0001f469", "\U0010ffff", "e\u0301",
    "田中さん", "\u05d1\u05bc", "Ω≈ç√", "İıſ", "reference_date", '"reference_date":"2024-01"', "a" * 5_000,
)  # fmt: skip


def changed(row: bytes, change: Callable[[bytes], bytes]) -> bytes:
    new = change(row)
    assert new != row
    return new


def named(row: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(row) | fields, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """An oddity, and its outcome.

    :param row: changes the row at the position.
    :param plain: changes the whole file after that.
    :param body: returns the body to send instead of the gzip file.
    :param refused: the text of the error, in all formats or by format.
    :param sizes: whether the record states sizes.
    """

    row: Callable[[bytes], bytes] = bytes
    plain: Callable[[bytes], bytes] = bytes
    body: Callable[[bytes], bytes] = gzip_bytes
    refused: str | dict[str, str] = field(default_factory=dict)
    sizes: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def without(row: bytes, name: str) -> bytes:
    return json.dumps({key: value for key, value in json.loads(row).items() if key != name}).encode()


def sorted_with_blanks(row: bytes) -> bytes:
    return json.dumps(dict(sorted(json.loads(row).items()))).encode()


NO_ROW = r"line {} is not a row"
ODDITIES = {
    "compact": Oddity(),
    "keys sorted, with blanks": Oddity(row=sorted_with_blanks),
    "non-ASCII as escapes": Oddity(row=lambda row: json.dumps(json.loads(row)).encode()),
    "blanks around a row": Oddity(row=lambda row: b" \t" + row + b" "),
    "lines end with CR LF": Oddity(plain=lambda plain: plain.replace(b"\n", b"\r\n")),
    "no final newline": Oddity(plain=lambda plain: plain[:-1]),
    "a blank line before a row": Oddity(row=lambda row: b" \r\n\n" + row),
    "a blank last line": Oddity(plain=lambda plain: plain + b"\n \n"),
    "a byte order mark": Oddity(plain=lambda plain: b"\xef\xbb\xbf" + plain),
    "a byte order mark within": Oddity(row=lambda row: b'{"a":1}\xef\xbb\xbf', refused=NO_ROW),
    "naughty strings": Oddity(row=lambda row: named(row, taxonomy_label=" ".join(NAUGHTY))),
    "several gzip members": Oddity(body=lambda plain: gzip_bytes(plain[:3_000], b"", plain[3_000:])),
    "an undocumented field": Oddity(row=lambda row: named(row, colour={"reference_date": "2020-01"})),
    "a row of 5,000 bytes": Oddity(
        row=lambda row: named(row, taxonomy_label="x" * 5_000),
        options={"max_row_bytes": 5_000},
        refused="line {} is longer than 5000 bytes",
    ),
    "no reference_date": Oddity(
        row=lambda row: without(row, "reference_date"),
        refused={
            "full": "row {} has no reference_date",
            "parquet": "row {} has no reference_date",
            "by month": "line {} has no reference_date",
        },
    ),
    "two reference_dates": Oddity(
        row=lambda row: changed(row, lambda row: row[:-1] + b',"reference_\\u0064ate":"2024-02"}'),
        refused="line {} has more than one reference_date",
    ),
    "garbage inside a row": Oddity(
        row=lambda row: changed(row, lambda r: r.replace(b'","', b'"#,"', 1)), refused=NO_ROW
    ),
    "a row that is cut": Oddity(row=lambda row: row[:-20] + b"}", refused=NO_ROW),
    "two rows on a line": Oddity(row=lambda row: row + row, refused=NO_ROW),
    "a row over two lines": Oddity(row=lambda row: row.replace(b",", b",\n", 1), refused=NO_ROW),
    "NUL": Oddity(row=lambda row: row.replace(b"Main", b"M\x00n"), refused=NO_ROW),
    "invalid UTF-8": Oddity(row=lambda row: row.replace(b"Main", b"M\xffn"), refused=NO_ROW),
    "an invalid escape": Oddity(row=lambda row: row.replace(b"Main", b"M\\xn"), refused=NO_ROW),
    "half a surrogate pair": Oddity(row=lambda row: row.replace(b"Main", b"\\ud800"), refused=NO_ROW),
    "deep nesting": Oddity(row=lambda row: b'{"a":' * 100_000, refused="line {} is nested too deeply"),
    "decompressed by a gateway": Oddity(body=bytes),
    "decompressed, and cut": Oddity(
        body=lambda plain: plain[:-1], refused="has .* bytes, and the export's record states"
    ),
    "a gzip member more": Oddity(
        body=lambda plain: gzip_bytes(plain, ROWS[0] + b"\n"), refused="decompresses to more than the"
    ),
}


@dataclass
class Store:
    """A storage that objects are written to and read from."""

    destination: Callable[[str], Destination]
    content: Callable[[], dict[str, bytes]]


@pytest.fixture(scope="module")
def client(s3_server: str) -> Any:
    return s3_client(s3_server)


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store(
            destination=lambda name: local_destination(str(tmp_path / name)),
            content=lambda: {path.name: path.read_bytes() for path in tmp_path.iterdir()},
        )
    client = request.getfixturevalue("client")
    bucket = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    client.create_bucket(Bucket=bucket)

    def content() -> dict[str, bytes]:
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
        names = [found["Key"] for found in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
        return {name: client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}

    return Store(destination=lambda name: in_s3(client, f"{bucket}/{name}"), content=content)


def lines_of(plain: bytes) -> list[bytes]:
    return [line for line in plain.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ODDITIES)
def test_every_oddity_is_decided(store: Store, name: str, form: str, place: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    oddity, number = ODDITIES[name], PLACES[place]
    rows = [*ROWS[:number], oddity.row(ROWS[number]), *ROWS[number + 1 :]]
    plain = oddity.plain(b"".join(row + b"\n" for row in rows))
    body = oddity.body(plain)
    refused = oddity.refused if isinstance(oddity.refused, str) else oddity.refused.get(form)
    options: dict[str, Any] = {**FORMS[form], **oddity.options, "attempts": 2, "sleep": lambda seconds: None}
    destination = store.destination("{reference_date}" if form == "by month" else "object.gz")
    with FileServer(FileResponse(body)) as server:
        packed = gzip_bytes(plain) if body == plain or name == "decompressed, and cut" else body
        source = server.source(compressed=len(packed), uncompressed=len(plain))
        if refused is not None:
            with pytest.raises((DamagedDownload, ExportRefused), match=refused.format(number + 1)) as caught:
                download_with(source, destination, **options)
            # Damage in transit needs a new download, a wrong file of the vendor a new export.
            assert len(server.requested_ranges) == (1 if isinstance(caught.value, ExportRefused) else 2)
            assert isinstance(caught.value, ExportRefused) == refused.startswith(("line", "row"))
            assert store.content() == {}
            return
        result = download_with(source, destination, **options)
    assert (result.rows, result.compressed_bytes, result.sizes_verified) == (9, len(packed), True)
    without = name == "no reference_date"
    assert result.months == {"2024-02": 5 - without, "2024-03": 4}
    check_content(store.content(), plain, form)
    if name == "several gzip members" and form == "gzip":
        assert store.content() == {"object.gz": body}


def check_content(content: dict[str, bytes], plain: bytes, form: str) -> None:
    lines = lines_of(plain)
    if form == "by month":
        wanted = dict.fromkeys(MONTHS, b"")
        for line in lines:
            wanted[json.loads(line)["reference_date"]] += line + b"\n"
        assert content == wanted
    elif form == "parquet":
        import pyarrow.parquet as pq

        found = pq.read_table(BytesIO(content["object.gz"])).to_pylist()
        texts = [json.loads(line) for line in lines]
        assert [row["taxonomy_label"] for row in found] == [row["taxonomy_label"] for row in texts]
        assert [row["operations"] for row in found] == [int(row["operations"]) for row in texts]
        assert [row["reference_date"] and f"{row['reference_date']:%Y-%m}" for row in found] == [
            row.get("reference_date") for row in texts
        ]
        assert [json.loads(row["other_fields"] or "{}") for row in found] == [
            {key: value for key, value in row.items() if key not in found[0]} for row in texts
        ]
    else:
        stored = content["object.gz"]
        assert (gzip.decompress(stored) if form == "gzip" else stored) == plain


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_no_size_confirms(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    plain = b"".join(row + b"\n" for row in ROWS)
    more = export_row(9, "2024-03") + b"\n"
    path = str(tmp_path / ("{reference_date}" if form == "by month" else "object.gz"))

    def download(body: bytes, **options: Any) -> WriteResult:
        with FileServer(FileResponse(body)) as server:
            return download_with(server.source(), local_destination(path), attempts=1, **FORMS[form], **options)

    with pytest.raises(ExportRefused, match="cannot be verified against a size"):
        download(gzip_bytes(plain, more), require_sizes=True)
    with pytest.raises(DamagedDownload, match="it is not gzip"):
        download(plain)
    assert list(tmp_path.iterdir()) == []
    # Whole members are whole files: only a size shows that one was appended.
    result = download(gzip_bytes(plain, more))
    assert (result.rows, result.sizes_verified) == (10, False)
    assert "is not verified against a size: its record states none" in caplog.text


@pytest.mark.parametrize("sizes", ["compressed", "uncompressed"])
def test_one_size_is_enough(tmp_path: Path, sizes: str) -> None:
    plain = b"".join(row + b"\n" for row in ROWS)
    body = gzip_bytes(plain)
    known = {"compressed": len(body)} if sizes == "compressed" else {"uncompressed": len(plain)}
    with FileServer(FileResponse(body)) as server:
        result = download_with(server.source(**known), local_destination(str(tmp_path / "x")), require_sizes=True)
    assert result.sizes_verified


def test_a_page_in_the_place_of_an_unpacked_file_is_damage(tmp_path: Path) -> None:
    page = b"<html>busy</html>"
    with FileServer(FileResponse(page)) as server, pytest.raises(DamagedDownload, match="it is not gzip"):
        download_with(server.source(uncompressed=len(page)), local_destination(str(tmp_path / "x")), attempts=1)


# The page's table of damage: the outcome of each check for a row with this damage.
FOUND, REPORTED, NOT_FOUND = "found", "reported", "not found"
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "bytes flipped, cut, doubled or inserted in transit": (lambda row: row, FOUND, FOUND),
    "garbage in a row, a row that is cut, two rows on a line": (lambda row: row[:-9] + b"}", FOUND, FOUND),
    "NUL, invalid UTF-8, an invalid escape": (lambda row: row.replace(b"Main", b"M\xffn"), FOUND, FOUND),
    "a second `reference_date`": (lambda row: row[:-1] + b',"reference_date":"2024-02"}', FOUND, FOUND),
    "a field that identifies the row is missing": (lambda row: without(row, "taxonomy_item_id"), NOT_FOUND, FOUND),
    "an invalid count, month or id": (lambda row: named(row, operations="1e3"), NOT_FOUND, FOUND),
    "a value of another JSON type": (lambda row: named(row, taxonomy_label=7), NOT_FOUND, FOUND),
    "another field is missing or null": (lambda row: without(row, "taxonomy_label"), NOT_FOUND, REPORTED),
    "a field that is not documented": (lambda row: named(row, colour="red"), NOT_FOUND, REPORTED),
    "a value that is not documented": (lambda row: named(row, aggregation="DAILY"), NOT_FOUND, REPORTED),
    "a row twice, or one too few": (lambda row: row + b"\n" + row, NOT_FOUND, NOT_FOUND),
    "another number, name or id of the documented form": (lambda row: named(row, operations="7"), NOT_FOUND, NOT_FOUND),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("validate", ["structure", "full"])
@pytest.mark.parametrize("name", DAMAGE)
def test_each_check_finds_the_damage_in_the_pages_table(tmp_path: Path, name: str, validate: str, place: str) -> None:
    change, *verdicts = DAMAGE[name]
    rows = [change(row) if number == PLACES[place] else row for number, row in enumerate(ROWS)]
    plain = b"".join(row + b"\n" for row in rows)
    body = gzip_bytes(plain)
    if name.startswith("bytes flipped"):
        body = body[:40] + bytes([body[40] ^ 1]) + body[41:]
    destination = local_destination(str(tmp_path / "object"))
    with FileServer(FileResponse(body)) as server:
        source = server.source(compressed=len(body), uncompressed=len(plain))
        verdict = verdicts[validate == "full"]
        if verdict == FOUND:
            with pytest.raises((DamagedDownload, ExportRefused)):
                download_with(source, destination, validate=validate, attempts=1)
            assert list(tmp_path.iterdir()) == []
        else:
            result = download_with(source, destination, validate=validate)
            assert bool(result.drift) == (verdict == REPORTED)
            assert (tmp_path / "object").read_bytes() == plain
    if verdict == REPORTED:
        with (
            FileServer(FileResponse(body)) as server,
            pytest.raises(ExportRefused, match="differs from its documentation"),
        ):
            download_with(server.source(), destination, validate=validate, on_drift="fail", export_id="e-2")


def table(title: str) -> list[list[str]]:
    page = (ROOT / "docs" / "data-path.md").read_text()
    chapter = page.partition(f"\n{title}\n")[2].partition("\n#")[0]
    lines = [line for line in chapter.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_has_each_of_them() -> None:
    assert [name for name, *_ in table("## Oddities")] == [*ODDITIES, "no size in the record"]
    assert table("### What each check finds") == [
        [name, *('reported, refused with `on_drift="fail"`' if it == REPORTED else it for it in verdicts)]
        for name, (_, *verdicts) in DAMAGE.items()
    ]
