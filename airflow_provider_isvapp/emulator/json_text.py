# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
r"""JSON text spelled in ways that a careless reader would not give back: ``1.50``, ``\u00fc``, ``\/``."""

from __future__ import annotations

import json
import re
from typing import Any

# U+FDD0 is not a character and never will be: nothing else in the data can look like a marked number.
_MARK = "\ufdd0"
_MARKED = re.compile(r'"(?:\ufdd0|\\ufdd0)([^"]*)"')


def number(spelling: str) -> str:
    """Mark a number so that :func:`spell` writes it digit by digit as given."""
    return _MARK + spelling


def spell(value: Any, *, escaped: bool = False, pretty: bool = False) -> str:
    r"""Write JSON.

    :param escaped: non-ASCII as ``\uXXXX`` and ``/`` as ``\/``, as some back ends do.
    :param pretty: over several lines.
    """
    text = json.dumps(
        value, ensure_ascii=escaped, indent=2 if pretty else None, separators=None if pretty else (",", ":")
    )
    text = _MARKED.sub(r"\1", text)
    return text.replace("/", "\\/") if escaped else text


def spell_rows(rows: list[Any], *, pretty: bool = False) -> list[str]:
    """Write each row by itself, every second one escaped."""
    return [spell(row, escaped=index % 2 == 1, pretty=pretty) for index, row in enumerate(rows)]


def spell_array(rows: list[str], *, pretty: bool = False) -> str:
    """Put written rows into an array."""
    return "[\n" + ",\n".join(rows) + "\n]" if pretty else "[" + ",".join(rows) + "]"
