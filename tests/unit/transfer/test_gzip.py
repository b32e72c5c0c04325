# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The decoder's promises, with each of the two engines."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer import gzip
from airflow_provider_isvapp.transfer.gzip import GzipMembers
from tests.support.file_server import gzip_bytes, ndjson


@pytest.fixture(params=["isal", "zlib"], autouse=True, scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    gzip._load_backend.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "zlib":
            patch.setitem(sys.modules, "isal", None)
        else:
            pytest.importorskip("isal", reason="the extra 'fast' is not installed")
        gzip._load_backend()
        yield
    gzip._load_backend.cache_clear()


def decode(*chunks: bytes) -> tuple[bytes, GzipMembers]:
    members = GzipMembers()
    plain = b"".join(out for chunk in chunks for _, out in members.decode(chunk))
    return plain, members


@settings(max_examples=60, deadline=None)
@given(
    plains=st.lists(st.binary(max_size=5_000).map(lambda some: some * 20), min_size=1, max_size=4),
    cuts=st.lists(st.integers(min_value=1, max_value=9_000), max_size=20),
)
def test_bytes_in_are_bytes_out_however_they_are_cut(plains: list[bytes], cuts: list[int]) -> None:
    body = gzip_bytes(*plains)
    chunks = []
    for cut in cuts:
        chunks.append(body[:cut])
        body = body[cut:]
    plain, members = decode(*chunks, body)
    assert plain == b"".join(plains)
    assert members.finished_members == len(plains)
    assert not members.inside_member


def test_pieces_cover_the_input() -> None:
    body = gzip_bytes(ndjson(3_000))
    assert b"".join(bytes(piece) for piece, _ in GzipMembers().decode(body)) == body


def test_every_single_byte_chunk() -> None:
    body = gzip_bytes(b"a\n", b"", b"b\n")
    plain, members = decode(*(body[i : i + 1] for i in range(len(body))))
    assert plain == b"a\nb\n"
    assert members.finished_members == 3


@pytest.mark.parametrize("length", range(1, 60))
def test_a_cut_body_ends_inside_a_member(length: int) -> None:
    body = gzip_bytes(bytes(range(40)))
    assert length < len(body)
    assert decode(body[:length])[1].inside_member


def test_empty_input_has_no_gzip_member() -> None:
    plain, members = decode(b"")
    assert (plain, members.finished_members, members.inside_member) == (b"", 0, False)


def broken(body: bytes, position: int) -> bytes:
    return body[:position] + bytes([body[position] ^ 0x10]) + body[position + 1 :]


BODY = gzip_bytes(ndjson(500))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(broken(BODY, -8), "corrupt", id="crc"),
        pytest.param(broken(BODY, -2), "corrupt", id="isize"),
        pytest.param(BODY + b"\0\0\0\0", "not gzip follow after gzip member 1", id="zero padding"),
        pytest.param(BODY + b"garbage", "not gzip follow after gzip member 1", id="garbage"),
        pytest.param(b'{"a":1}\n', "not gzip", id="plain json"),
        pytest.param(b"<html>busy</html>", "not gzip", id="html"),
        pytest.param(b"<", "not gzip", id="one wrong byte"),
    ],
)
def test_damage_is_named(body: bytes, message: str) -> None:
    with pytest.raises(DamagedDownload, match=message):
        decode(body)


def test_every_flipped_bit_is_noticed() -> None:
    body = gzip_bytes(b"0123456789" * 3)
    for position in range(10, len(body)):
        damaged = broken(body, position)
        try:
            plain, members = decode(damaged)
        except DamagedDownload:
            continue
        # A bit of padding may change without changing the meaning.
        assert members.inside_member or plain == b"0123456789" * 3, position
