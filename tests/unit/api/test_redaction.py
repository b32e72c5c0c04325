# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import base64
import html
import json
import logging
import string
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_isvapp.api.redaction import LONGEST_TEXT, Redactor, hide_in_log, password_in

SECRET = "s3cr/\"a&b'c+d =%41<\\end"
_PRINTABLE = "".join(letter for letter in string.printable if letter.isprintable())


def json_escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04X}" for letter in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in a URL's path": quote,
    "in a URL's query": lambda text: quote(text, safe=""),
    "in a form": quote_plus,
    "with small hex digits": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in JSON with every letter escaped": json_escaped,
    "in JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "as Python shows it": lambda text: repr(text)[1:-1],
    "in HTML": html.escape,
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in HTTP Basic": lambda text: base64.b64encode(f"client:{text}".encode()).decode(),
    "in the URL variant of base64": lambda text: base64.urlsafe_b64encode(f"c:{text}:x".encode()).decode(),
    "in base64 in a URL": lambda text: quote(base64.b64encode(f"cl:{text}".encode()).decode(), safe=""),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("around", ["{}", "the key {} is wrong", '{{"error": "{}"}}', "x{}y"])
def test_a_secret_is_removed_in_every_spelling(spelling: str, around: str) -> None:
    written = SPELLINGS[spelling](SECRET)

    shown = Redactor([SECRET])(around.format(written))

    assert "***" in shown
    # The text around it remains and, in base64, a letter that also holds bits of that text.
    assert longest_common(written, shown) <= LEFT_AROUND.get(spelling, 3)


LEFT_AROUND = {
    "in HTTP Basic": len(base64.b64encode(b"client")) + 2,
    "in base64 in a URL": 5,
    "in the URL variant of base64": 5,
}


def longest_common(left: str, right: str) -> int:
    pieces = (left[start:end] for start in range(len(left)) for end in range(start + 1, len(left) + 1))
    return max((len(piece) for piece in pieces if piece in right), default=0)


@given(
    secret=st.text(_PRINTABLE, min_size=5, max_size=40),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    spelling=st.sampled_from(
        sorted(set(SPELLINGS) - {name for name in SPELLINGS if "base64" in name or "Basic" in name})
    ),
)
def test_no_secret_survives_redaction(secret: str, before: str, after: str, spelling: str) -> None:
    shown = Redactor([secret]).mask(before + SPELLINGS[spelling](secret) + after)

    assert "***" in shown
    assert secret.replace("*", "") == "" or secret not in shown


def test_a_secret_across_the_cut_is_removed_before_the_cut() -> None:
    text = "x" * (LONGEST_TEXT - 6) + SECRET

    assert Redactor([SECRET])(text) == "x" * (LONGEST_TEXT - 6) + "***"


def test_the_beginning_of_a_secret_at_the_end_of_a_response_is_removed() -> None:
    assert Redactor([SECRET])(f"bad key {SECRET[:12]}") == "bad key ***"
    assert Redactor([SECRET])(f"bad key {SECRET[:12]}…") == "bad key ***…"


def test_characters_that_are_not_seen_do_not_hide_a_secret() -> None:
    assert Redactor([SECRET])(f"key {SECRET[:6]}\u200b{SECRET[6:]}") == "key ***"


def test_control_and_bidirectional_characters_go() -> None:
    assert Redactor()("a\x1b[31m b\u202e\u2066c\x00\r\nd\u2028e") == "a [31m b c d e"


def test_a_very_short_secret_does_not_tear_up_the_text() -> None:
    assert Redactor(["a", "the"])("the password is a") == "the password is a"


def test_a_text_is_bounded() -> None:
    assert len(Redactor()("x" * 5_000_000)) == LONGEST_TEXT + 1


@pytest.mark.parametrize("unit", ["\\", "%", "%25", "&#", "\\u00", "s3cr", "http://", "/exports/", "+", " ", "\u202e"])
def test_the_worst_texts_take_no_long_time(unit: str) -> None:
    started = time.process_time()

    Redactor([SECRET, "another-secret"])(unit * (5_000_000 // len(unit)))

    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no /api/v1/exports/e1/download/t-o-k here", "no /api/v1/exports/e1/download/*** here"),
        ("see https://bucket.test/f?X-Amz-Signature=abc&x=1.", "see https://bucket.test/f?***"),
        (r'{"u": "https:\/\/h.test\/f?sig=abc"}', r'{"u": "https:\/\/h.test\/f?***"}'),
    ],
)
def test_the_token_of_a_url_is_removed_even_if_it_is_unknown(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


def test_of_a_documented_download_url_only_the_token_is_removed() -> None:
    redactor = Redactor()
    redactor.add_url("https://api.test/api/v1/exports/e1/download/tok-en?x=secret")

    assert redactor("no file at /api/v1/exports/e1/download/tok-en") == "no file at /api/v1/exports/e1/download/***"
    assert redactor("bad token tok-en") == "bad token ***"


def test_recent_download_urls_are_redacted() -> None:
    redactor = Redactor()
    redactor.add_url("https://api.test/files/abcdef0123456789?sig=tok%2Fen")

    for echoed in ("files/abcdef0123456789", "abcdef0123456789", "sig=tok%2Fen"):
        assert redactor(f"no such file: {echoed}") == "no such file: ***"
    for number in range(100):
        redactor.add_temporary(f"token-{number:04}")
    assert redactor("token-0099 abcdef0123456789") == "*** abcdef0123456789"


@pytest.mark.parametrize(
    ("name", "message", "arguments"),
    [
        ("connectionpool", '%s://%s:%s "%s %s %s" %s %s', ("http", "h", 80, "GET", "/d/SECRET", "HTTP/1.1", 200, None)),
        ("connectionpool", "Retrying (%r) after connection broken by '%r': %s", (1, OSError("x"), "/d/SECRET")),
        ("connectionpool", "Redirecting %s -> %s", ("/d", "http://h/SECRET")),
        ("connectionpool", "Retry: %s", ("/d/SECRET",)),
        ("connection", "Failed to parse headers (url=%s): %s", ("http://h/d/SECRET", ValueError("k: SECRET"))),
        ("poolmanager", "Redirecting %s -> %s", ("/d", "http://h/SECRET")),
        ("util.retry", "Incremented Retry for (url='%s'): %r", ("/d/SECRET", object())),
    ],
)
def test_no_line_of_urllib3_shows_a_secret(
    name: str, message: str, arguments: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    redactor = Redactor(["sentinel-token"])
    hide_in_log(redactor)
    caplog.set_level(logging.DEBUG)
    real = tuple(
        item.replace("SECRET", "sentinel-token")
        if isinstance(item, str)
        else ValueError("k: sentinel-token")
        if isinstance(item, ValueError)
        else item
        for item in arguments
    )

    try:
        raise ValueError("sentinel-token in a header")
    except ValueError:
        logging.getLogger(f"urllib3.{name}").warning(message, *real, exc_info=True)

    assert "***" in caplog.text
    assert "sentinel" not in caplog.text


@pytest.mark.parametrize(
    ("url", "password"),
    [("redis://:p%40ss@h/0", "p@ss"), ("redis://h/0", None), ("redis://[x", None), (None, None), ("", None)],
)
def test_the_password_of_a_storage(url: object, password: str | None) -> None:
    assert password_in(url) == password


def test_a_client_may_open_while_another_thread_logs() -> None:
    kept: deque[Redactor] = deque(maxlen=1_000)
    over = threading.Event()

    def open_clients() -> None:
        while not over.is_set():
            kept.append(Redactor())
            hide_in_log(kept[-1])

    log = logging.getLogger("urllib3.connectionpool")
    record = log.makeRecord(log.name, logging.DEBUG, __file__, 1, "GET /", (), None)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(open_clients)
            try:
                for _ in range(300):
                    log.filter(record)
            finally:
                over.set()
            opening.result()
    finally:
        sys.setswitchinterval(interval)
