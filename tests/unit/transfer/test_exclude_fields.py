# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Excluded fields are removed at any place and in any spelling, and nothing else changes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.download import download_export
from airflow_provider_isvapp.transfer.exclude_fields import FieldFilter, parse_field
from airflow_provider_isvapp.transfer.lists import write_list
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from tests.support.doubles import AnyRow
from tests.support.file_server import FileResponse, FileServer, Source, ndjson

# One name ends like another one after a quotation mark.
NAMES = ["a", "b", "Contacts", "Contact", "ü/", 'x"a', 'x\\"a']
EXCLUDED = ["a", "Contacts", "b[].a", "b.Contacts", "b[][].b", "ü/", "b.b[].Contact"]


@dataclass(frozen=True)
class Json:
    """A value as its bytes, or as an array or an object of others."""

    text: str = ""
    items: tuple[Json, ...] | None = None
    members: tuple[tuple[str, str, Json], ...] | None = None
    space: str = ""

    def render(self, excluded: Sequence[str], path: tuple[str, ...] = ()) -> str:
        """Write it as a vendor might; without the excluded fields, as another program would do it."""
        if self.items is not None:
            inner = [item.render(excluded, (*path, "[]")) for item in self.items]
            return f"[{self.space}{f'{self.space},{self.space}'.join(inner)}{self.space}]"
        if self.members is not None:
            gone = [parse_field(text) for text in excluded]
            inner = [
                f"{spelled}{self.space}:{self.space}{value.render(excluded, (*path, name))}"
                for name, spelled, value in self.members
                if (name,) not in gone and (*path, name) not in gone
            ]
            return f"{{{self.space}{f'{self.space},{self.space}'.join(inner)}{self.space}}}"
        return self.text


@st.composite
def member(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> tuple[str, str, Json]:
    name = draw(st.sampled_from(NAMES))
    spelled = "".join(
        f"\\u{ord(letter):04{draw(st.sampled_from('xX'))}}"
        if draw(st.integers(0, 9)) == 0
        else json.dumps(letter, ensure_ascii=False)[1:-1]
        for letter in name
    )
    return name, f'"{spelled}"', draw(values)


SPACES = st.sampled_from(["", "", " ", "\t "])
STRINGS = ["", "a", '"a":1,', "\\", '\\"Contacts": 1', "{,}", "Contacts", "Müller"]
SPELLED = [json.dumps(text, ensure_ascii=plain) for text in STRINGS for plain in (False, True)] + ['"\\u0061"']
LEAVES = st.sampled_from([*SPELLED, "1.50", "12345678901234567890", "-0e+1", "null", "true"]).map(Json)


def objects(values: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.builds(Json, members=st.lists(member(values), max_size=4).map(tuple), space=SPACES)


def arrays(values: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.builds(Json, items=st.lists(values, max_size=3).map(tuple), space=SPACES)


VALUES = st.recursive(LEAVES, lambda inner: objects(inner) | arrays(inner), max_leaves=12)
ROWS = st.lists(objects(VALUES), min_size=1, max_size=4)


def tokens(text: bytes) -> list[bytes]:
    return re.findall(rb'"(?:[^"\\]|\\.)*"|[^\s"{}\[\],:]+|[{}\[\],:\n]', text)


@settings(max_examples=400, deadline=None)
@given(
    rows=ROWS,
    excluded=st.lists(st.sampled_from(EXCLUDED), min_size=1, max_size=3, unique=True),
    cut=st.integers(0, 300),
)
def test_excluding_fields_equals_another_program_that_removes_them(
    rows: list[Json], excluded: list[str], cut: int
) -> None:
    text = "\n".join(row.render(()) for row in rows).encode()
    fields = FieldFilter(excluded)

    left = fields.feed(text[:cut]) + fields.feed(text[cut:]) + fields.finish()

    expected = "\n".join(row.render(excluded) for row in rows).encode()
    assert tokens(left) == tokens(expected)
    assert all(isinstance(json.loads(line), dict) for line in left.splitlines())


def test_a_value_that_stays_keeps_its_bytes() -> None:
    row = b'{ "n" : 1.50 , "AppContacts":[ {"x":"}"} ], "s":"a  \\u00e9\\/\\"AppContacts\\":1,",  "l":[ 1 ,2e+0 ] }\n'
    assert FieldFilter(["AppContacts"]).strip(row) == (
        b'{ "n" : 1.50 ,  "s":"a  \\u00e9\\/\\"AppContacts\\":1,",  "l":[ 1 ,2e+0 ] }\n'
    )


def test_a_deeply_nested_row_causes_no_recursion() -> None:
    row = b'{"a":' * 5000 + b'{"gone":1,"kept":2}' + b"}" * 5000 + b"\n"
    assert FieldFilter(["gone"]).strip(row.replace(b"gone", b"g\\u006fne")) == row.replace(b'"gone":1,', b"")


def test_time_grows_with_the_row_only() -> None:
    row = b'{"x":"' + b'\\"' * 500_000 + b'","y":[' + b'"x",' * 200_000 + b'1],"gone":"' + b"\\\\" * 500_000 + b'"}\n'
    assert FieldFilter(["gone"]).strip(row).endswith(b'"x",1]}\n')
    assert FieldFilter(["y[].gone", "gone"]).strip(row).endswith(b'"x",1]}\n')
    spaces = b" " * 500_000
    row = b'{"gone"%b:%b1%b,%b"x":["gone"%b,%b"gone"%b]}' % ((spaces,) * 7)
    assert FieldFilter(["gone"]).strip(row) == row[row.index(b",") + 1 :].replace(
        spaces + b'"x"', b"{" + spaces + b'"x"'
    )


@pytest.mark.parametrize(
    "text",
    ["", "a.", ".a", "a..b", "Instances[]", "[]", "[].a", "a]", "a[", "a[0]", "a[]b", "x\ny", "\ud800", 5, None, b"a"],
)
def test_an_invalid_field_name_is_refused(text: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="names no field"):
        write(tmp_path, exclude_fields=[text])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["AppContacts", {"AppContacts"}, None, 5])
def test_it_takes_a_list_of_names(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="must be a list of names"):
        write(tmp_path, exclude_fields=value)


ROWS_OF_APPS = [b'{"Id":"1","Contacts":{"who":"x"},"N":1.50}', b'{"Id":"2","Instances":[{"Contacts":1,"n":2}]}']


def write(folder: Path, *, documented: Sequence[str] = ("Id", "Instances[].Contacts"), **options: Any) -> WriteResult:
    return write_list(
        ROWS_OF_APPS,
        local_destination(str(folder / "apps")),
        dataset="apps",
        row_type=AnyRow,
        options=WriteOptions(**options),
        documented=documented,
    )


class TestList:
    def test_the_object_lacks_the_field_and_its_provenance_names_it(self, tmp_path: Path) -> None:
        result = write(tmp_path, exclude_fields=["Contacts"], manifest=True)

        stored = (tmp_path / "apps").read_bytes()
        assert stored == b'{"Id":"1","N":1.50}\n{"Id":"2","Instances":[{"n":2}]}\n'
        assert (result.rows, result.bytes) == (2, len(stored))
        manifest = json.loads((tmp_path / "_apps.manifest.json").read_bytes())
        assert manifest["format"]["exclude_fields"] == ["Contacts"]
        assert "without=" in manifest["source"]["format"]
        assert write(tmp_path, exclude_fields=["Contacts"], manifest=True).outcome is Outcome.UNCHANGED
        # The excluded fields are part of the provenance.
        assert write(tmp_path, exclude_fields=["Contacts", "Id"]).outcome is Outcome.WRITTEN
        assert write(tmp_path).outcome is Outcome.WRITTEN

    def test_a_path_leaves_the_same_name_elsewhere(self, tmp_path: Path) -> None:
        write(tmp_path, exclude_fields=("Instances[].Contacts",))
        assert (tmp_path / "apps").read_bytes() == ROWS_OF_APPS[0] + b'\n{"Id":"2","Instances":[{"n":2}]}\n'

    @pytest.mark.parametrize("name", ["Contcts", "Instances.Contacts", "Contacts.Id", "contacts"])
    def test_a_name_that_is_unknown_publishes_nothing(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(
            InvalidArgument, match=f"'{re.escape(name)}': no row has it, and the vendor's documentation"
        ):
            write(tmp_path, exclude_fields=["Contacts", name])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["Notes", "Deep[].Notes", "N", "Contacts.who"])
    def test_a_documented_name_or_one_of_a_row_is_enough(self, tmp_path: Path, name: str) -> None:
        write(tmp_path, exclude_fields=["Contacts", name], documented=["Deep[].Notes"])
        assert b"who" not in (tmp_path / "apps").read_bytes()


FILE = ndjson(40, months=("2024-01", "2024-02"))
FIELD = "salesforce_account_name"


def kept(file: bytes) -> list[dict[str, Any]]:
    return [{name: value for name, value in json.loads(row).items() if name != FIELD} for row in file.splitlines()]


class TestExport:
    def download(self, path: Path, **options: Any) -> WriteResult:
        with FileServer(FileResponse(gzip.compress(FILE))) as server:
            return download_export(
                Source(server.url, Export(id="e-1", status=ExportStatus.COMPLETED), 10.0),
                local_destination(str(path)),
                export_id="e-1",
                options=WriteOptions(**{"exclude_fields": [FIELD], **options}),
            )

    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_the_file_is_no_longer_the_vendors(self, tmp_path: Path, compression: Any) -> None:
        result = self.download(tmp_path / "usage.gz", compression=compression, validate="full")

        stored = (tmp_path / "usage.gz").read_bytes()
        plain = gzip.decompress(stored) if compression else stored
        assert [json.loads(row) for row in plain.splitlines()] == kept(FILE)
        assert (result.rows, result.bytes) == (40, len(plain))
        assert (
            self.download(tmp_path / "usage.gz", compression=compression, validate="full").outcome is Outcome.UNCHANGED
        )
        assert (
            self.download(tmp_path / "usage.gz", compression=compression, exclude_fields=()).outcome is Outcome.WRITTEN
        )

    def test_months(self, tmp_path: Path) -> None:
        self.download(tmp_path / "{reference_date}", partition_by="reference_date")
        stored = (tmp_path / "2024-01").read_bytes() + (tmp_path / "2024-02").read_bytes()
        order = lambda row: (row["reference_date"], json.dumps(row))  # noqa: E731
        assert sorted(map(json.loads, stored.splitlines()), key=order) == sorted(kept(FILE), key=order)

    def test_parquet_has_no_such_column(self, tmp_path: Path) -> None:
        pq = pytest.importorskip("pyarrow.parquet")
        self.download(tmp_path / "usage", output_format="parquet")
        table = pq.read_table(tmp_path / "usage")
        assert FIELD not in table.column_names
        assert table.column("other_fields").null_count == table.num_rows == 40

    def test_a_name_that_is_unknown_publishes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgument, match="'account_name': no row has it"):
            self.download(tmp_path / "usage", exclude_fields=["account_name"], manifest=True)
        assert list(tmp_path.iterdir()) == []

    def test_the_month_stays(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgument, match="reference_date cannot be excluded"):
            self.download(tmp_path / "usage", exclude_fields=["reference_date"])
