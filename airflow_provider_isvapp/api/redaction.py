# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Redaction: removes a connection's secrets from every text of a vendor.

A vendor, a gateway or an attacker in between can repeat a request in any encoding. All such text passes through a
:class:`Redactor` before it reaches a message, a log or a record. The same secrets are kept out of urllib3's log.
"""

from __future__ import annotations

import base64
import html
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

MASK = "***"
# Shorter secrets are not searched for: masking them would damage ordinary words, and the gaps would reveal them.
SHORTEST_SECRET = 5
LONGEST_TEXT = 500
# Longer texts are cut before the search. The cut to LONGEST_TEXT comes after it, so it splits no secret.
_LONGEST_SEARCHED = 64 * 1024
# A triggerer runs for months, and tokens and download URLs change all the time: only the latest are kept.
_MOST_TEMPORARY = 32
# Enough for a secret that is encoded twice in one way and once in another.
_MOST_VARIANTS = 16

# A download's URL is /api/v1/exports/:id/download/:token; other signed URLs carry their token in the query.
_DOWNLOAD_PATH = re.compile(r"(/exports/[^/\s]{1,200}/download/)[^\s\"'<>\\]+")
_QUERY = re.compile(r"(\bhttps?:[\\/]{1,8}[^\s?\"'<>]{1,2000}\?)[^\s\"'<>]+", re.IGNORECASE)
# Escapes, and invisible characters: inside a secret, they would hide it from the search.
_ESCAPES = re.compile(r"[%\\&+\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]")


class Redactor:
    """Removes secrets from vendors' texts in every encoding: plain, URL-encoded, JSON- or HTML-escaped, base64.

    :param secrets: kept permanently; those shorter than :data:`SHORTEST_SECRET` are ignored.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._permanent: list[tuple[str, ...]] = []
        self._temporary: deque[tuple[str, ...]] = deque(maxlen=_MOST_TEMPORARY)
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Add a permanent secret, for example one that replaces another."""
        if len(secret) >= SHORTEST_SECRET:
            self._permanent.append(_literals(secret))

    def add_temporary(self, secret: str) -> None:
        """Add a secret for a while: an access token, or the token in a download URL."""
        if len(secret) >= SHORTEST_SECRET and all(secret != known for known, *_ in self._temporary):
            self._temporary.append(_literals(secret))

    def add_url(self, url: str) -> None:
        """Add the secret parts of a download URL for a while: its path, the last segment, and its query."""
        path, _, query = url.partition("://")[2].partition("/")[2].partition("?")
        documented = _DOWNLOAD_PATH.search(f"/{path}")
        token = path.rpartition("/")[2]
        # In other URLs the whole path may be the secret; a short last segment may be an ordinary word.
        secrets = (token,) if documented else (path, token if len(token) >= 2 * SHORTEST_SECRET else "")
        for secret in (query, *secrets):
            self.add_temporary(secret)
            # Both as in the URL and decoded: a text that repeats it may encode it in another way.
            self.add_temporary(unquote(secret))

    def mask(self, text: str) -> str:
        """Replace each secret by :data:`MASK`, and change nothing else."""
        known = (*self._permanent, *self._temporary)
        found: list[tuple[int, int]] = []
        for variant, offsets in _variants(text):
            for literals in known:
                spans = [span for literal in literals for span in _spans(literal, variant)]
                spans += _truncated(literals[0], variant)
                found += [(offsets[start], offsets[end]) for start, end in spans]
        for start, end in reversed(_merged(found)):
            text = text[:start] + MASK + text[end:]
        return _QUERY.sub(rf"\1{MASK}", _DOWNLOAD_PATH.sub(rf"\1{MASK}", text))

    def __call__(self, text: str, *, longest: int = LONGEST_TEXT) -> str:
        """Make a vendor's text safe to show: bounded, without secrets, control and bidirectional characters."""
        text = self.mask(_cut(text, _LONGEST_SEARCHED))
        if not text.isprintable():
            text = "".join(letter if letter.isprintable() else " " for letter in text)
        return _cut(" ".join(text.split()), longest)


def password_in(url: object) -> str | None:
    """Find the password in the URL of a storage, decoded."""
    if not isinstance(url, str):
        return None
    try:
        password = urlsplit(url).password
    except ValueError:
        return None
    return unquote(password) if password else None


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"


def _literals(secret: str) -> tuple[str, ...]:
    """Return the strings to search for: the secret, then the encodings that cannot be decoded at an unknown offset."""
    encoded = _in_base64(secret.encode())
    in_bytes = {secret.encode().decode("latin-1")}  # the result of percent-decoding
    return (secret, *sorted((encoded | in_bytes) - {secret}))


def _spans(literal: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(literal)
    while start >= 0:
        yield start, start + len(literal)
        start = text.find(literal, start + len(literal))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping spans, in the order of the text."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _truncated(secret: str, text: str) -> list[tuple[int, int]]:
    """Find the beginning of a secret at the end of a text: a response can break off inside a secret."""
    if secret[:SHORTEST_SECRET] not in text[-len(secret) - 4 :]:
        return []
    whole = text.rstrip("…\"'. ")
    for length in range(len(secret) - 1, SHORTEST_SECRET - 1, -1):
        if whole.endswith(secret[:length]):
            return [(len(whole) - length, len(whole))]
    return []


_PERCENT = re.compile(r"%([0-9a-fA-F]{2})")
_PERCENT_OR_PLUS = re.compile(r"%([0-9a-fA-F]{2})|\+")
_JSON = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]+")
_HTML = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{1,8});")


def _variants(text: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield a text and its repeatedly decoded forms, each with the offset in the text of each of its characters."""
    waiting: deque[tuple[str, Sequence[int]]] = deque([(text, range(len(text) + 1))])
    seen = {text}
    while waiting:
        variant, offsets = waiting.popleft()
        yield variant, offsets
        if not _ESCAPES.search(variant):
            continue
        for pattern, letter in _DECODERS:
            decoded = _decoded(variant, offsets, pattern, letter)
            if decoded[0] not in seen and len(seen) < _MOST_VARIANTS:
                seen.add(decoded[0])
                waiting.append(decoded)


def _decoded(
    text: str, offsets: Sequence[int], pattern: re.Pattern[str], letter: Callable[[re.Match[str]], str]
) -> tuple[str, Sequence[int]]:
    parts: list[str] = []
    places: list[int] = []
    end = 0
    for match in pattern.finditer(text):
        decoded = letter(match)
        parts += (text[end : match.start()], decoded)
        places += offsets[end : match.start()]
        places += [offsets[match.start()]] * len(decoded)
        end = match.end()
    if not end:
        return text, offsets
    return "".join((*parts, text[end:])), [*places, *offsets[end:]]


def _from_hex(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else " "


def _from_json(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else str(match[2])


_DECODERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (_PERCENT, _from_hex),
    (_PERCENT_OR_PLUS, _from_hex),
    (_JSON, _from_json),
    (_HTML, lambda match: html.unescape(match[0])),
    (_INVISIBLE, lambda _: ""),
)


def _in_base64(text: bytes) -> set[str]:
    """Return the substrings that stand for a text inside longer base64, such as that of HTTP Basic.

    Base64 encodes three bytes as four letters, so the number of bytes before the text matters modulo three. Letters
    that also hold bits of neighboring bytes are left out.
    """
    found = set()
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            letters = encode(bytes(shift) + text).decode()[(0, 2, 3)[shift] : (shift + len(text)) * 8 // 6]
            if len(letters) >= SHORTEST_SECRET:
                found.add(letters)
    return found


class _HideSecrets(logging.Filter):
    """Masks urllib3's log, which quotes paths in messages and arguments, and headers in tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self._redactors: WeakSet[Redactor] = WeakSet()
        # Other threads open clients while one logs. A finalizer may log, too, while its thread holds the lock.
        self._lock = threading.RLock()

    def add(self, redactor: Redactor) -> None:
        with self._lock:
            self._redactors.add(redactor)

    def discard(self, redactor: Redactor) -> None:
        with self._lock:
            self._redactors.discard(redactor)

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            redactors = tuple(self._redactors)
        message = masked = record.getMessage()
        for redactor in (*redactors, _NO_SECRETS):
            masked = redactor.mask(masked)
        if masked != message:
            record.msg, record.args = masked, ()
        if record.exc_info and redactors:
            record.exc_info = record.exc_text = None
        return True


_NO_SECRETS = Redactor()
_FILTER = _HideSecrets()


def hide_in_log(redactor: Redactor) -> None:
    """Keep a redactor's secrets out of urllib3's log until it is released, or for as long as it exists."""
    _FILTER.add(redactor)
    for name in ("connection", "connectionpool", "poolmanager", "util.retry"):
        logging.getLogger(f"urllib3.{name}").addFilter(_FILTER)


def release_from_log(redactor: Redactor) -> None:
    """Stop searching urllib3's log for a redactor's secrets: its connections are closed.

    Each line is searched once per redactor, and clients are in reference cycles, so many would stay for long.
    """
    _FILTER.discard(redactor)
