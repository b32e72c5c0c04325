# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Hostile responses, generated: each kind of fault with each status, each field with each odd value."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from tests.support.hostile.vendors import ENDPOINTS, Endpoint, every_spelling
from tests.support.hostile.wire_server import Drip, KeepAlive, Reset, Seen, Silence, Step


class Fate(StrEnum):
    """The required outcome of a request that gets only this response."""

    RETRIED = "retried"  # another attempt may help: all attempts are used, and a create is sent once
    REFUSED = "refused"  # an error of the tree
    JUDGED = "judged"  # a result or an error of the tree: the documentation allows both


@dataclass(frozen=True, kw_only=True)
class HostileResponse:
    """One response.

    :param play: returns the bytes to send for a request.
    """

    name: str
    play: Callable[[Seen], Iterable[Step]]
    fate: Fate = Fate.REFUSED


def head(status: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def whole(status: int, body: bytes, *headers: str, content_type: str = "application/json") -> tuple[Step, ...]:
    """A response with correct framing."""
    start = head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers)
    return (start + body, KeepAlive())


def _always(*steps: Step) -> Callable[[Seen], Iterable[Step]]:
    return lambda _: steps


def fate_of(status: int) -> Fate:
    """Return the required outcome for a status with any body."""
    return Fate.RETRIED if status == 429 or status >= 500 else Fate.REFUSED


STATUSES = (200, 400, 401, 403, 404, 429, 500, 503)
# One endpoint of each kind gets all statuses, which the transport handles. The others get only those that they handle.
_OF_EACH_KIND = ("token", "create", "list", "productiv_apps")


# --- the framing of a body ---


def framing_faults(body: bytes) -> dict[str, tuple[Step, ...]]:
    """Each way in which a body does not arrive, after a status line without the end of the headers."""
    length = f"Content-Length: {len(body) + 10}\r\n\r\n".encode()
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    packed = gzip.compress(body, mtime=0)
    middle = len(packed) // 2
    damaged = packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :]

    def encoded(encoding: str, content: bytes) -> tuple[Step, ...]:
        length = f"Content-Encoding: {encoding}\r\nContent-Length: {len(content)}\r\n\r\n"
        return (length.encode() + content, KeepAlive())

    return {
        "cut": (length + body,),
        "cut and reset": (length + body, Reset()),
        "cut before the body": (length,),
        "chunk of no size": (chunked + b"zz\r\n" + body,),
        "chunk of negative size": (chunked + b"-5\r\n" + body,),
        "chunk of endless size": (chunked + b"f" * 5000 + b"\r\n" + body,),
        "cut chunk": (chunked + b"%x\r\n" % (len(body) + 10) + body,),
        "no last chunk": (chunked + b"%x\r\n" % len(body) + body + b"\r\n",),
        "not gzip": encoded("gzip", body),
        "not deflate": encoded("deflate", b"\x00" + body),
        "damaged gzip": encoded("gzip", damaged),
        "half of gzip": encoded("gzip", packed[:middle]),
        "six times gzip": encoded(", ".join(["gzip"] * 6), body),
    }


def slow_faults(body: bytes) -> dict[str, tuple[Step, ...]]:
    """Each way in which a body does not end, after a status line."""
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    return {
        "stall": (f"Content-Length: {len(body) + 10}\r\n\r\n".encode() + body, Silence()),
        "stall before the body": (f"Content-Length: {len(body)}\r\n\r\n".encode(), Silence()),
        "trickle": (b"Content-Length: 1000000000\r\n\r\n", Drip(b" ", every=0.02)),
        "trickle of chunks": (chunked, Drip(b"1\r\n \r\n", every=0.02)),
        "trickle of empty gzip members": (
            b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            Drip(_chunk(gzip.compress(b"", mtime=0)), every=0.02),
        ),
    }


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_LINE = "HTTP/1.1 {} Whatever\r\nContent-Type: application/json\r\n"


def framing(endpoint: Endpoint, base_url: str, *, statuses: Sequence[int] | None = None) -> Iterator[HostileResponse]:
    """Each status with each body that does not arrive."""
    body = endpoint.body(base_url)
    for status in statuses or (STATUSES if endpoint.name in _OF_EACH_KIND else (200, 404)):
        line = _LINE.format(status).encode()
        for name, (first, *rest) in framing_faults(body).items():
            assert isinstance(first, bytes)
            fate = fate_of(status)
            if status == 200:
                # The file of an export is raw bytes, which the transfer checks.
                # Half of a compressed body decodes to half of the JSON: it arrived, as far as HTTP can tell.
                fate = Fate.JUDGED if endpoint.is_file or name == "half of gzip" else Fate.RETRIED
            elif name == "cut and reset":
                # The reset can overtake the headers.
                fate = Fate.REFUSED
            yield HostileResponse(name=f"{status}, {name}", play=_always(line + first, *rest), fate=fate)


def slow(endpoint: Endpoint, base_url: str, *, statuses: Sequence[int] = (200, 503)) -> Iterator[HostileResponse]:
    """Each status with each body that does not end, and headers that do not."""
    body = endpoint.body(base_url)
    for status in statuses:
        line = _LINE.format(status).encode()
        for name, (first, *rest) in slow_faults(body).items():
            assert isinstance(first, bytes)
            if endpoint.is_file and status == 200 and name.startswith("trickle"):
                continue  # the transfer decides how long a file may take
            fate = fate_of(status)
            if status == 200:
                fate = Fate.JUDGED if endpoint.is_file else Fate.RETRIED
            yield HostileResponse(name=f"{status}, {name}", play=_always(line + first, *rest), fate=fate)
    endless: dict[str, tuple[Step, ...]] = {
        "no response": (Silence(),),
        "100 Continue for ever": (Drip(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.02),),
        "103 for ever": (Drip(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", every=0.02),),
        "slow status line": (b"HTTP/1.1 200 ", Drip(b"O", every=0.02)),
        "slow headers": (b"HTTP/1.1 200 OK\r\nX-Slow: ", Drip(b"x", every=0.02)),
        "stall in the headers": (b"HTTP/1.1 200 OK\r\nContent-", Silence()),
    }
    for name, steps in endless.items():
        # http.client treats status 103 as the response, and the connection as reusable.
        fate = Fate.REFUSED if name.startswith("103") else Fate.RETRIED
        yield HostileResponse(name=name, play=_always(*steps), fate=fate)


# --- status line and headers ---


def broken_heads(endpoint: Endpoint, base_url: str) -> Iterator[HostileResponse]:
    """No response, or one with an invalid status line or headers."""
    body = endpoint.body(base_url)
    length = f"Content-Length: {len(body)}"
    silent: dict[str, tuple[Step, ...]] = {
        "closed": (b"",),
        "reset": (Reset(),),
        "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n",),
        "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x46",),
        "status of letters": (b"HTTP/1.1 abc OK\r\n\r\n" + body,),
        "status 99": (b"HTTP/1.1 99 OK\r\n\r\n" + body,),
        "status 1000": (b"HTTP/1.1 1000 OK\r\n\r\n" + body,),
        "status line without end": (b"HTTP/1.1 200 " + b"O" * 70_000 + b"\r\n\r\n",),
        "a header without end": (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",),
        "headers without end": (
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(200)) + b"\r\n" + body,
        ),
    }
    for name, steps in silent.items():
        yield HostileResponse(name=name, play=_always(*steps), fate=Fate.RETRIED)
    odd = {
        "a header without a colon": head(200, "nonsense", length),
        "a header that is folded": head(200, "X-Folded: a\r\n b", length),
        "a header without a name": head(200, ": nothing", length),
        "a header that is not ASCII": head(200, "X-Odd: \xff\xfe\x80", length),
        "NUL in a header": head(200, "X-Odd: a\x00b", length),
        "two lengths": head(200, length, "Content-Length: 3"),
        "negative length": head(200, "Content-Length: -7"),
        "length of letters": head(200, "Content-Length: many"),
        "length of 5000 digits": head(200, f"Content-Length: {'9' * 5000}"),
        "length and chunks": head(200, length, "Transfer-Encoding: chunked"),
        "unknown transfer encoding": head(200, "Transfer-Encoding: snail"),
        "unknown content encoding": head(200, length, "Content-Encoding: snail"),
        "headers that are cut": b"HTTP/1.1 200 OK\r\nContent-",
        "HTTP/0.9 with headers": b"HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/9.9": b"HTTP/9.9 200 OK\r\n" + length.encode() + b"\r\n\r\n",
        "no content": head(204),
        "reset content": head(205, length),
        "partial content": head(206, length),
        "partial content of elsewhere": head(206, length, "Content-Range: bytes 9-99999999999999999999/*"),
        "partial content of 5000 digits": head(206, length, f"Content-Range: bytes {'9' * 5000}-{'9' * 5000}/*"),
        "switching protocols": head(101, length),
        "status 299": head(299, length),
        "status 600": head(600, length),
        "status 999": head(999, length),
    }
    for name, start in odd.items():
        steps = (start + body,) if start.endswith(b"\r\n\r\n") else (start,)
        yield HostileResponse(name=name, play=_always(*steps), fate=Fate.JUDGED)


_NINES = "9" * 20
ABSURD_TIMES = (
    "0",
    "-1",
    _NINES,
    "9" * 5000,
    "1e999",
    "nan",
    "\xb2\xb2",
    "",
    f"Tue, 05 Mar {_NINES} 08:42:30 GMT",
    "Tue, 05 Mar 99999 08:42:30 GMT",
    f"Tue, {_NINES} Mar 2024 08:42:30 GMT",
    f"Tue, 05 Mar 2024 {_NINES}:42:30 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Tue, 05 Mar 2024 08:42:30 +99999999",
    "Tue, 05 Mar 2024 08:42:30 -0000",
    "Tue, 05 Mar 2024 08:42:30",
    "Tue, , ,",
)


def odd_headers(endpoint: Endpoint, base_url: str) -> Iterator[HostileResponse]:
    """Headers that the client reads, with invalid values."""
    body = endpoint.body(base_url)
    for value in ABSURD_TIMES:
        shown = f"{value[:40]!r}"
        yield HostileResponse(
            name=f"Date: {shown}", play=_always(*whole(200, body, f"Date: {value}")), fate=Fate.JUDGED
        )
        for status in (429, 503) if endpoint.name in _OF_EACH_KIND else ():
            yield HostileResponse(
                name=f"{status}, Retry-After: {shown}",
                play=_always(*whole(status, b"", f"Retry-After: {value}", f"Date: {value}")),
                fate=Fate.RETRIED,
            )
    for name, values in {
        "ETag": ('"', 'W/"1"', '"\xff"', '"' + "x" * 60_000 + '"', '"a\x01b"'),
        "Accept-Ranges": ("bytes", "\xff"),
        "Content-Type": ("text/html; charset=none", "application/json; charset=utf-16", "\xff", ""),
        "Set-Cookie": ("a=b; Domain=.example.com; Max-Age=" + "9" * 5000, "=; =;;", "\xff=\xff"),
        "Connection": ("close", "Keep-Alive, \xff"),
        "WWW-Authenticate": ("Negotiate " + "x" * 60_000,),
    }.items():
        for value in values:
            yield HostileResponse(
                name=f"{name}: {value[:40]!r}", play=_always(*whole(200, body, f"{name}: {value}")), fate=Fate.JUDGED
            )


# --- redirects and URLs ---


def foreign_urls(other: str, own: str, path: str) -> tuple[str, ...]:
    """URLs that lead, or may seem to lead, from a connection's origin to another one.

    :param other: host and port of the other origin.
    :param own: host and port of the connection's.
    """
    other_host, _, other_port = other.partition(":")
    own_host, _, _ = own.partition(":")
    return (
        f"http://{other}{path}",
        f"HTTP://{other}{path}",
        f"https://{own}{path}",
        f"//{other}{path}",
        f"http:/{other}{path}",
        f"http:{other}{path}",
        f"\\\\{other}{path}",
        f"http:\\\\{other}{path}",
        f"http://{other}\\@{own}{path}",
        f"http://{other}\\.{own}{path}",
        f"http://{other}#@{own}{path}",
        f"http://{other}?@{own}{path}",
        f"http://{other}/@{own}{path}",
        f"http://{other};@{own}{path}",
        f"http://{own}@{other}{path}",
        f"http://{own}:pw@{other}{path}",
        f"http://user:pw@{own}{path}",
        f"http://{other}%2F@{own}{path}",
        f"http://{other}%5C@{own}{path}",
        f"http://{other}%00@{own}{path}",
        f"http://{other}\t@{own}{path}",
        f"http://{other}\n@{own}{path}",
        f"http://{other}\r\nHost: {own}{path}",
        f"http://{other}\x00.{own}{path}",
        f"http://{own}\x00@{other}{path}",
        f" http://{other}{path}",
        f"\thttp://{other}{path}",
        f"\x01http://{other}{path}",
        f"ht\ntp://{other}{path}",
        f"http://{own_host}:{other_port}{path}",
        f"http://{own_host}.:{other_port}{path}",
        f"http://{other_host}:0{other_port}{path}",
        f"http://127.1:{other_port}{path}",
        f"http://2130706433:{other_port}{path}",
        f"http://0x7f000001:{other_port}{path}",
        f"http://[::ffff:127.0.0.1]:{other_port}{path}",
        f"http://\uff11\uff12\uff17.0.0.1:{other_port}{path}",
        f"http://localhost:{other_port}{path}",
        f"http://{own}:{other_port}{path}",
        f"http://[::1{path}",
        f"http://[{other}]{path}",
        f"http://{own_host}:99999{path}",
        f"http://{own_host}:-1{path}",
        f"http://{own_host}:port{path}",
        f"http://{'a' * 300}.{own}{path}",
        f"http://xn--{'a' * 80}{path}",
        f"http://.{own}{path}",
        f"http://*{path}",
        "http://",
        "http:///",
        "://",
        "",
        " ",
        "ftp://127.0.0.1/file",
        "file:///etc/passwd",
        "data:,x",
        "javascript:alert(1)",
        "\ud800",
    )


def redirects(endpoint: Endpoint, base_url: str, other: str) -> Iterator[HostileResponse]:
    """Each status of a redirect, and each Location."""
    own = base_url.removeprefix("http://")
    urls = foreign_urls(other, own, endpoint.path)
    locations = [
        *(url for url in urls if not set(url) & set("\r\n\x00")),
        "x" * 60_000,
        f"{base_url}{endpoint.path}",
        every_spelling(),
    ]
    for status, location in itertools.chain(
        ((302, location) for location in locations),
        ((status, f"http://{other}{endpoint.path}") for status in (300, 301, 303, 304, 305, 307, 308, 399)),
    ):
        encoded = location.encode("utf-8", "surrogatepass").decode("latin-1")
        yield HostileResponse(
            name=f"{status}, Location: {location[:60]!r}",
            play=_always(*whole(status, b"", f"Location: {encoded}")),
        )
    for status in (301, 302):
        yield HostileResponse(name=f"{status} without a Location", play=_always(*whole(status, b"")))


def download_urls(base_url: str, other: str) -> Iterator[HostileResponse]:
    """An export whose file is said to be at each of the odd URLs."""
    endpoint = ENDPOINTS["show"]
    own = base_url.removeprefix("http://")
    for url in foreign_urls(other, own, ENDPOINTS["download"].path):
        record = endpoint.valid(base_url)
        record["data"]["download_url"] = url
        body = json.dumps(record).encode()
        yield HostileResponse(name=f"download_url {url[:60]!r}", play=_always(*whole(200, body)), fate=Fate.JUDGED)


# --- the content of a body ---

DEEP = 100_000


def unreadable_bodies() -> dict[str, bytes]:
    """Bodies that are not the JSON of any endpoint."""
    return {
        "empty": b"",
        "white space": b" \r\n\t ",
        "HTML": b"<!DOCTYPE html><html><body>" + every_spelling().encode() + b"</body></html>",
        "invalid UTF-8": b'{"data": "\xff\xfe", "success": true, "access_token": "\xc3("}',
        "UTF-16": '{"success": true}'.encode("utf-16"),
        "a byte order mark": b'\xef\xbb\xbf{"success": true, "data": null}',
        "null": b"null",
        "a list": b"[]",
        "a number": b"7",
        "a text": json.dumps(every_spelling()).encode(),
        "1e999": b"1e999",
        "5000 digits": b"9" * 5000,
        "NaN": b'{"success": NaN, "data": Infinity}',
        "half of JSON": b'{"data": {"id": "e-1", "sta',
        "two values": b'{"success": true} {"success": true}',
        "lists, deep": b"[" * DEEP + b"]" * DEEP,
        "objects, deep": b'{"data":' * DEEP + b"1" + b"}" * DEEP,
        "deep and open": b'{"error":[' * DEEP,
        "success and deep data": b'{"success": true, "data": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        "deep error": b'{"success": false, "error": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        "an unknown field, deep": b'{"success": false, "error": "no", "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        "an odd error": b'{"success": false, "error": 1e999, "x": ' + b"9" * 5000 + b"}",
        "no success": b'{"data": []}',
        "success in words": b'{"data": [], "success": "yes"}',
        "success that is 1e999": b'{"data": [], "success": 1e999}',
        "no data": b'{"success": true}',
        "NUL": b"\x00" * 100,
    }


def _saying(text: str) -> bytes:
    return json.dumps({"error": text, "success": False}).encode()


CONTROLS = "a\x00b\x1b[31mc\x07d\u202ee\u2066f\u200fg\x85h\u2028i\x7fj\rk\nl"
CUT_AT = 500


def vendor_texts() -> dict[str, bytes]:
    """Refusals whose message holds secrets, is endless, or looks like something else."""
    spelled = every_spelling()
    straddling = {
        f"a secret {before} characters before the cut": _saying("x" * (CUT_AT - before) + spelled)
        for before in range(0, 140, 9)
    }
    return {
        "all secrets": _saying(spelled),
        "all secrets, not as JSON": spelled.encode(),
        "all secrets, as OAuth2 says it": json.dumps(
            {"error": "invalid_client", "error_description": spelled, "error_uri": spelled}
        ).encode(),
        "all secrets, escaped": _saying(spelled).replace(b"/", b"\\/").replace(b"s3ntinel", b"\\u0073\\u0033ntinel"),
        "all secrets in other fields": json.dumps({"message": spelled, "Message": spelled}).encode(),
        "a message of 5 MB": _saying("y" * 5_000_000),
        "a message of 5 MB of brackets": _saying("x://" * 1_250_000),
        "a text of 5 MB": b"z" * 5_000_000,
        "control characters": _saying(CONTROLS),
        "control characters, not as JSON": CONTROLS.encode(),
        "a lone surrogate": b'{"error": "\\ud800", "success": false}',
        **straddling,
    }


def _repeating_the_request(status: int) -> Callable[[Seen], Iterable[Step]]:
    def play(seen: Seen) -> Iterable[Step]:
        repeated = (seen.head + b"\n" + seen.body).decode("latin-1")
        return whole(status, _saying(repeated))

    return play


def bodies(endpoint: Endpoint, base_url: str, *, statuses: Sequence[int] | None = None) -> Iterator[HostileResponse]:
    """Each status with each body that the endpoint does not document."""
    for status in statuses or ((200, 401, 403, 404, 429, 500) if endpoint.name in _OF_EACH_KIND else (200, 404)):
        fate = fate_of(status)
        if status == 200 and endpoint.is_file:
            fate = Fate.JUDGED
        for name, body in (unreadable_bodies() | vendor_texts()).items():
            yield HostileResponse(name=f"{status}, {name}", play=_always(*whole(status, body)), fate=fate)
        yield HostileResponse(name=f"{status}, the request repeated", play=_repeating_the_request(status), fate=fate)


ODD_VALUES = {
    "null": "null",
    "true": "true",
    "-5": "-5",
    "0": "0",
    "1.5": "1.5",
    "1e999": "1e999",
    "-1e999": "-1e999",
    "1e-999": "1e-999",
    "5000 digits": "9" * 5000,
    "5000 decimals": "0." + "9" * 5000,
    "NaN": "NaN",
    "2**63": str(2**63),
    "an empty text": '""',
    "a space": '" "',
    "a text": '"odd"',
    "a long text": '"' + "w" * 100_000 + '"',
    "control characters": json.dumps(CONTROLS),
    "all secrets": json.dumps(every_spelling()),
    "a lone surrogate": '"\\ud800"',
    "NUL": '"\\u0000"',
    "an empty list": "[]",
    "an empty object": "{}",
    "a list": '[1, "a", null, {}]',
    "deep": "[" * DEEP + "]" * DEEP,
    "nested, not too deep": "[" * 500 + "]" * 500,
    "the year 99999": '"99999-01-01T00:00:00Z"',
    "the first day, eastward": '"0001-01-01T00:00:00+23:59"',
    "the last day, westward": '"9999-12-31T23:59:59-23:59"',
    "a week": '"2024-W10-2"',
    "a date": '"2024-03-05"',
}
_PLACE = "\u2603place\u2603"


def odd_fields(endpoint: Endpoint, base_url: str) -> Iterator[HostileResponse]:
    """Each field of the documented response with each odd value, and without it."""
    if endpoint.is_file:
        return
    valid = endpoint.valid(base_url)
    for path in _paths(valid):
        shown = ".".join(map(str, path))
        for name, text in ODD_VALUES.items():
            spoilt = json.dumps(_with(valid, path, _PLACE), ensure_ascii=False).replace(f'"{_PLACE}"', text)
            yield HostileResponse(
                name=f"{shown} is {name}", play=_always(*whole(200, spoilt.encode())), fate=Fate.JUDGED
            )
        yield HostileResponse(
            name=f"without {shown}",
            play=_always(*whole(200, json.dumps(_with(valid, path, _ABSENT)).encode())),
            fate=Fate.JUDGED,
        )
    if isinstance(valid, dict):
        for extra in ("data", "success", "error", "id", "access_token", "scope", "refresh_token", "x"):
            body = json.dumps(valid)[:-1] + f', "{extra}": {json.dumps(every_spelling())}}}'
            yield HostileResponse(
                name=f"twice or new: {extra}", play=_always(*whole(200, body.encode())), fate=Fate.JUDGED
            )


_ABSENT: Any = object()


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _with(value: Any, path: Sequence[str | int], new: Any) -> Any:
    changed = json.loads(json.dumps(value))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if new is _ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return changed


# --- too much ---

MIB = 1 << 20


@cache
def gzip_bomb(mebibytes: int, unit: bytes = b" ") -> bytes:
    """A few bytes that decode to many."""
    compressor = zlib.compressobj(9, wbits=31)
    block = unit * (MIB // len(unit))
    return b"".join(compressor.compress(block) for _ in range(mebibytes)) + compressor.flush()


def too_large(endpoint: Endpoint, base_url: str) -> Iterator[HostileResponse]:
    """Endless bodies, sent as fast as the client reads, which the bound on the size ends."""
    bomb = gzip_bomb(64)
    packed = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb
    yield from _without_end(
        endpoint,
        {
            "64 KB that decode to 64 MiB": (packed,),
            "chunks for ever": (b"Transfer-Encoding: chunked\r\n\r\n", Drip(_chunk(b" " * 65536))),
            "bytes for ever": (b"\r\n", Drip(b"[" * 65536)),
        },
    )


def never_large(endpoint: Endpoint, base_url: str) -> Iterator[HostileResponse]:
    """Endless responses without content, sent as fast as the client reads, which only the time ends."""
    headers = b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    members = Drip(_chunk(gzip.compress(b"", mtime=0) * 1000))
    yield from _without_end(endpoint, {"empty gzip members for ever": (headers, members)})
    yield HostileResponse(
        name="100 Continue for ever, at full speed",
        play=_always(Drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
        fate=Fate.RETRIED,
    )


def _without_end(endpoint: Endpoint, bodies: dict[str, tuple[Step, ...]]) -> Iterator[HostileResponse]:
    for status in (200, 503):
        line = _LINE.format(status).encode()
        fate = Fate.JUDGED if status == 200 and endpoint.is_file else fate_of(status)
        for name, (first, *rest) in bodies.items():
            assert isinstance(first, bytes)
            yield HostileResponse(name=f"{status}, {name}", play=_always(line + first, *rest), fate=fate)


def sample(endpoint: Endpoint, base_url: str, other: str) -> Iterator[HostileResponse]:
    """A response of each kind that the Airflow adapters distinguish. Other tests send all responses to the clients."""
    return itertools.chain(
        itertools.islice(framing(endpoint, base_url, statuses=(200, 401)), 0, None, 2),
        itertools.islice(broken_heads(endpoint, base_url), 0, None, 3),
        itertools.islice(bodies(endpoint, base_url, statuses=(200, 403, 500)), 0, None, 7),
        itertools.islice(redirects(endpoint, base_url, other), 3),
        (cell for cell in odd_fields(endpoint, base_url) if cell.name.endswith(("1e999", "deep", "all secrets"))),
    )
