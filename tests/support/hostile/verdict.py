# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The guarantees of every entry point to its caller, for any response of a vendor."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.support.hostile.vendors import SECRETS, leaked

LONGEST_MESSAGE = 2000
# Every message ends with the reader's next step.
_NEXT_STEP = re.compile(
    r"\b(check|correct|try|give|create|look|ask|wait|change|clear|set|request|retry|choose|let|use)\b", re.IGNORECASE
)
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class LogText(logging.Handler):
    """Collects all log records of every level, with their tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._lines: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

    def take(self) -> str:
        """Return what was logged since the last call."""
        lines, self._lines = self._lines, []
        return "\n".join(lines)


@contextmanager
def everything_logged() -> Iterator[LogText]:
    """Log everything, regardless of the loggers' levels."""
    root = logging.getLogger()
    handler, level = LogText(), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def problems_of_message(message: str, secrets: Iterable[str] = SECRETS, *, next_step: bool = True) -> Iterator[str]:
    """Yield the problems of an error's message.

    :param next_step: whether it must name the reader's next step.
    """
    if len(message) > LONGEST_MESSAGE:
        yield f"its message has {len(message)} characters: {message[:200]}…"
    odd = sorted({letter for letter in message if unicodedata.category(letter) in ("Cc", "Cs") and letter != "\n"})
    odd += sorted(_BIDIRECTIONAL & set(message))
    if odd:
        yield f"its message has the characters {odd}: {message[:200]!r}"
    if next_step and not _NEXT_STEP.search(message):
        yield f"its message names no next step: {message[:300]}"
    yield from problems_of_text("its message", message, secrets)


def problems_of_text(where: str, text: str, secrets: Iterable[str] = SECRETS) -> Iterator[str]:
    """Yield a problem if a text of a run has one of the secrets."""
    around = leaked(text, secrets)
    if around is not None:
        yield f"{where} has a secret: …{around}…"


def chain_of(error: BaseException) -> str:
    """Return the text of an error's traceback, with its causes and contexts."""
    shown: list[str] = []
    following: BaseException | None = error
    while following is not None:
        shown.append(f"{type(following).__name__}: {following!r} {following}")
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return "\n".join(shown)
