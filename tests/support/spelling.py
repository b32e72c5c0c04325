# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A secret in every encoding in which a program could have written it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

# The characters that each encoding has to change, so that a secret's spellings differ from each other.
AWKWARD = "/\"a&b'c+d =%41"


def spellings(secret: str) -> set[bytes]:
    """Return the texts to search for: plain, URL-encoded, repr, escaped for JSON once and twice, base64."""
    plain = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    found = set()
    for text in plain | {repr(text)[1:-1] for text in plain}:
        escaped = text
        for _ in range(4):
            found.add(escaped.encode())
            escaped = json.dumps(escaped)[1:-1]
    for text in plain:
        for shift in range(3):
            found |= {_within_base64(text.encode(), shift, encode) for encode in _ENCODERS}
    return found


_ENCODERS = (base64.b64encode, base64.urlsafe_b64encode)


def _within_base64(text: bytes, shift: int, encode: object) -> bytes:
    """Return the letters of a text's encoding that do not depend on the bytes before and after it.

    Base64 makes four letters of three bytes. So ``shift``, the number of bytes before the text, matters modulo three.
    Letters that also hold bits of other bytes are left out.
    """
    encoded: bytes = encode(bytes(shift) + text)  # type: ignore[operator]
    return encoded[(0, 2, 3)[shift] : (shift + len(text)) * 8 // 6]
