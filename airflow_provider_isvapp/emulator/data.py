# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
r"""Generated rows of ISVapp, the same for the same seed, and JSON text that a careless reader would change: ``1.50``,
``\u00fc``, ``\/``.
"""

from __future__ import annotations

import json
import random
import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from airflow_provider_isvapp.emulator.config import EmulatorConfig


class Restatement(StrEnum):
    """How the rows of a month differ from those that earlier exports had."""

    COUNTERS = "counters"  # every tenth account has other counters
    ROWS_LOST = "rows_lost"  # every second row is gone
    ROWS_DOUBLED = "rows_doubled"  # every tenth account has each row twice
    ACCOUNTS_RENAMED = "accounts_renamed"  # every tenth account has another name
    ORDER = "order"  # the same rows, the last one first
    SERIALIZER = "serializer"  # the same rows with sorted keys and with blanks


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What the rows of an export depend on, besides the emulator's configuration.

    ``accounts`` holds the 15-character form of the account filter. ``version`` is 0 until a fault changes the file, and
    ``restated`` has the changes that faults make to single months, each as a month and a :class:`Restatement`.
    """

    type: str
    aggregation: str
    months: tuple[str, ...]
    selection: str
    ids: tuple[str, ...]
    accounts: tuple[str, ...] | None = None
    version: int = 0
    restated: tuple[tuple[str, Restatement], ...] = ()

    def restatements(self, month: str) -> frozenset[Restatement]:
        """Return how the rows of a month differ from those of an export without this fault."""
        return frozenset(change for name, change in self.restated if name == month)


BLOCK_BYTES = 1 << 20
_LABELS = (
    "Player Management", "Billing", "Übersicht", "Suche & Filter", "レポート", 'Import "Wizard"',
    "Einstellungen/Rechte", "Audit Log", "Dashboard", "Kalender",
)  # fmt: skip
_LEVELS = ("Product Area", "Feature Group", "Feature")
_COUNTERS = (
    b'"unique_users":"%d","unique_users_external":"%d","unique_users_internal":"%d",'
    b'"operations":"%d","operations_external":"%d","operations_internal":"%d"}\n'
)
_HUGE = 1 << 53
"""Added to some counters: integers that a float cannot hold."""


def ndjson(config: EmulatorConfig, request: ExportRequest) -> Iterator[bytes]:
    """Yield the plain content of an export in blocks of about a megabyte that end with a row."""
    end = b"\r\n" if config.line_end == "crlf" else b"\n"
    last = b""
    for block in _blocks(config, request):
        if last:
            yield last
        last = block if end == b"\n" else block.replace(b"\n", end)
    if last:
        yield last if config.final_newline else last.removesuffix(end)


def _blocks(config: EmulatorConfig, request: ExportRequest) -> Iterator[bytes]:
    size = -(-config.rows // config.account_count)
    items = [_item(config, request, index) for index in range(size)]
    wanted = None if request.accounts is None else frozenset(request.accounts)
    block: list[bytes] = []
    length = 0

    def known(month: str = "") -> Iterator[tuple[int, SalesforceAccount]]:
        every: Iterable[tuple[int, SalesforceAccount]] = enumerate(Accounts(config.seed, config.account_count))
        if Restatement.ORDER in request.restatements(month):
            every = reversed(list(every))
        for index, account in every:
            if wanted is None or account.id[:15] in wanted:
                yield index, account

    if config.row_order == "month":
        parts = ((month, index, account) for month in request.months for index, account in known(month))
    else:
        parts = ((month, index, account) for index, account in known() for month in request.months)
    for month, index, account in parts:
        rows = _rows(config, request, month, index, account, items)
        sort_keys, blanks = config.row_keys == "sorted", config.row_blanks
        if Restatement.SERIALIZER in request.restatements(month):
            sort_keys, blanks = not sort_keys, not blanks
        if sort_keys or blanks:
            rows = b"".join(_reserialized(line, sort_keys=sort_keys, blanks=blanks) for line in rows.splitlines())
        block.append(rows)
        length += len(rows)
        if length >= BLOCK_BYTES:
            yield b"".join(block)
            block, length = [], 0
    if length:
        yield b"".join(block)


def _rows(
    config: EmulatorConfig,
    request: ExportRequest,
    month: str,
    index: int,
    account: SalesforceAccount,
    items: list[bytes],
) -> bytes:
    count = config.account_count
    size = config.rows * (index + 1) // count - config.rows * index // count
    if not size:
        return b""
    changes = request.restatements(month)
    touched = changes if index % 10 == 0 else frozenset()
    version = f"{request.version} restated" if Restatement.COUNTERS in touched else request.version
    rng = seeded(config.seed, version, month, request.selection, request.ids, index)
    head = _fields(
        {
            "type": request.type,
            "aggregation": request.aggregation,
            "reference_date": month,
            "salesforce_account_id": account.id,
            "salesforce_account_name": account.name + " (renamed)" * (Restatement.ACCOUNTS_RENAMED in touched),
        },
        escaped=index % 2 == 1,
    )
    lines: list[bytes] = []
    for item in items[:size]:
        lines += (b"{", head, item, _COUNTERS % _counters(rng.getrandbits(50)))
    if changes:
        lines = b"".join(lines).splitlines(keepends=True)
    if Restatement.ROWS_LOST in changes:
        # Counted over the rows of all accounts.
        lines = lines[config.rows * index // count % 2 :: 2]
    if Restatement.ORDER in changes:
        lines.reverse()
    if Restatement.ROWS_DOUBLED in touched:
        lines *= 2
    return b"".join(lines)


def _reserialized(line: bytes, *, sort_keys: bool, blanks: bool) -> bytes:
    """Serialize a row as another serializer would."""
    text = json.dumps(
        json.loads(line),
        ensure_ascii=line.isascii(),
        sort_keys=sort_keys,
        separators=(", ", ": ") if blanks else (",", ":"),
    )
    return text.encode() + b"\n"


def _counters(bits: int) -> tuple[int, int, int, int, int, int]:
    external, internal = bits & 0x1FFF, bits >> 13 & 0x1FF
    operations, own = external * (bits >> 22 & 0xFF), internal * (bits >> 30 & 0xFF)
    if not bits >> 38:
        operations += _HUGE
    return external + internal, external, internal, operations + own, operations, own


def _item(config: EmulatorConfig, request: ExportRequest, index: int) -> bytes:
    """Return the part of a row that describes its taxonomy item, under the ids that were requested."""
    rng = seeded(config.seed, request.selection, request.ids, index)

    def identifier() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    wanted = request.ids[index % len(request.ids)]
    level = index % len(_LEVELS)
    return _fields(
        {
            "taxonomy_id": wanted if request.selection == "taxonomy_ids" else identifier(),
            "taxonomy_item_id": wanted if request.selection == "taxonomy_item_ids" else identifier(),
            "taxonomy_item_label": f"{_LABELS[index % len(_LABELS)]} {index}",
            "taxonomy_item_parent_item_id": identifier() if level else None,
            "taxonomy_label": "Main Product Taxonomy",
            "taxonomy_level_id": wanted if request.selection == "taxonomy_level_ids" else identifier(),
            "taxonomy_level_label": _LEVELS[level],
        },
        escaped=index % 3 == 1,
    )


def _fields(values: dict[str, Any], *, escaped: bool) -> bytes:
    text = json.dumps(values, ensure_ascii=escaped, separators=(",", ":"))
    return text[1:-1].encode() + b","


def seeded(*parts: object) -> random.Random:
    """Return a random generator that depends on these values only."""
    return random.Random("/".join(str(part) for part in parts))  # noqa: S311 - generated data, no secrets


# U+FDD0 is a noncharacter, so nothing else in the data looks like a marked number.
_MARK = "\ufdd0"
_MARKED = re.compile(r'"(?:\ufdd0|\\ufdd0)([^"]*)"')


def number(text: str) -> str:
    """Mark a number that :func:`to_json` writes exactly as given."""
    return _MARK + text


def to_json(value: Any, *, escaped: bool = False, pretty: bool = False) -> str:
    r"""Serialize to JSON.

    :param escaped: non-ASCII as ``\uXXXX`` and ``/`` as ``\/``, as some backends do.
    :param pretty: indented.
    """
    text = json.dumps(
        value, ensure_ascii=escaped, indent=2 if pretty else None, separators=None if pretty else (",", ":")
    )
    text = _MARKED.sub(r"\1", text)
    return text.replace("/", "\\/") if escaped else text


def rows_to_json(rows: list[Any], *, pretty: bool = False) -> list[str]:
    """Serialize each row, every second one escaped."""
    return [to_json(row, escaped=index % 2 == 1, pretty=pretty) for index, row in enumerate(rows)]


def json_array(rows: list[str], *, pretty: bool = False) -> str:
    """Join serialized rows to an array."""
    return "[\n" + ",\n".join(rows) + "\n]" if pretty else "[" + ",".join(rows) + "]"


_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
# Quotes, braces, a line break, a line separator and non-ASCII letters, which a wrong parser of rows trips over.
_ACCOUNT_NAMES = (
    "Müller & Söhne", "Acme", "Société Générale d'Études", "株式会社あおい", 'The "Quoted" Company', "Łódź Freight",
    "Curly } Brace { Labs", "Back\\slash Systems", "Two\nLines", "Separator\u2028Holding", "Rocket 🚀 Partners",
    "Northwind", "Ångström Instruments", "Globex", "A/B Testing",
)  # fmt: skip
_FORMS = ("Inc.", "GmbH", "S.A.", "Ltd", "AB", "K.K.")


@dataclass(frozen=True)
class SalesforceAccount:
    """One account; ``id`` has 18 characters."""

    isvapp_id: str
    id: str
    name: str


def salesforce_id(prefix: str, rng: random.Random) -> str:
    """Generate an 18-character id: 15 characters, and a checksum of their case."""
    short = prefix.ljust(8, "0") + "".join(rng.choices(_ALPHABET, k=7))
    checksum = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, letter in enumerate(short[start : start + 5]) if letter.isupper())
        checksum += _CHECKSUM[bits]
    return short + checksum


@lru_cache(maxsize=4)
class Accounts:
    """The vendor's active accounts, each made when it is first needed: a large export starts and stops at once.

    Several threads may iterate at the same time.
    """

    def __init__(self, seed: int, count: int) -> None:
        self._rng = seeded("accounts", seed)
        self._count = count
        self._made: list[SalesforceAccount] = []
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[SalesforceAccount]:
        for index in range(self._count):
            if index >= len(self._made):
                with self._lock:
                    while index >= len(self._made):
                        self._make()
            yield self._made[index]

    def _make(self) -> None:
        index = len(self._made)
        account = SalesforceAccount(
            isvapp_id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            id=salesforce_id("0014x000", self._rng),
            name=f"{_ACCOUNT_NAMES[index % len(_ACCOUNT_NAMES)]} {_FORMS[self._rng.randrange(len(_FORMS))]} {index}",
        )
        if account.id not in self._ids:  # two of a hundred thousand random ids can be equal
            self._ids.add(account.id)
            self._made.append(account)


def account_rows(
    seed: int, count: int, *, include_health_scores: bool, include_subscriber_orgs: bool
) -> list[dict[str, Any]]:
    """Return the rows of the accounts endpoint."""
    rng = seeded("details", seed)
    rows = []
    for account in Accounts(seed, count):
        # Always drawn, so that the values of an account do not depend on the parameters.
        scores = [
            {"score": number(f"{rng.uniform(0, 100):.2f}"), "is_primary": True, "label": "Adoption"},
            {"score": rng.randrange(101), "is_primary": False, "label": "Zufriedenheit (müde/wach)"},
        ][: rng.randrange(3)]
        orgs = [
            {"name": f"{account.name} {kind}", "salesforce_id": salesforce_id("00D4x000", rng)}
            for kind in ("Production", "Sandbox", "Développement")[: rng.randrange(4)]
        ]
        row: dict[str, Any] = {"isvapp_id": account.isvapp_id, "salesforce_id": account.id, "name": account.name}
        if include_health_scores:
            row["health_scores"] = scores
        if include_subscriber_orgs:
            row["subscriber_orgs"] = orgs
        rows.append(row)
    return rows
