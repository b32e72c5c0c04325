# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The rows of an export, as a stream of ndjson that never has to fit into memory.

The rows of a month depend only on the seed, the month, the taxonomy selection and the account: a twelve-month export is
the concatenation of its months, and an account filter leaves out lines without changing the others.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.export_order import ExportOrder
from airflow_provider_isvapp.emulator.salesforce_accounts import SalesforceAccount, accounts
from airflow_provider_isvapp.emulator.seeded import seeded

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
"""Added to a counter now and then: integers that a float cannot hold."""


def ndjson(config: EmulatorConfig, order: ExportOrder) -> Iterator[bytes]:
    """Yield an export's plain content in blocks of about a megabyte, each ending with a row."""
    size = -(-config.rows // config.account_count)
    items = [_item(config, order, index) for index in range(size)]
    wanted = None if order.accounts is None else frozenset(order.accounts)
    block: list[bytes] = []
    length = 0
    for month in order.months:
        for index, account in enumerate(accounts(config.seed, config.account_count)):
            if wanted is not None and account.id[:15] not in wanted:
                continue
            rows = _rows(config, order, month, index, account, items)
            block.append(rows)
            length += len(rows)
            if length >= BLOCK_BYTES:
                yield b"".join(block)
                block, length = [], 0
    if length:
        yield b"".join(block)


def _rows(
    config: EmulatorConfig,
    order: ExportOrder,
    month: str,
    index: int,
    account: SalesforceAccount,
    items: list[bytes],
) -> bytes:
    count = config.account_count
    size = config.rows * (index + 1) // count - config.rows * index // count
    if not size:
        return b""
    rng = seeded(config.seed, order.version, month, order.selection, order.ids, index)
    head = _fields(
        {
            "type": order.type,
            "aggregation": order.aggregation,
            "reference_date": month,
            "salesforce_account_id": account.id,
            "salesforce_account_name": account.name,
        },
        escaped=index % 2 == 1,
    )
    lines: list[bytes] = []
    for item in items[:size]:
        lines += (b"{", head, item, _COUNTERS % _counters(rng.getrandbits(50)))
    return b"".join(lines)


def _counters(bits: int) -> tuple[int, int, int, int, int, int]:
    external, internal = bits & 0x1FFF, bits >> 13 & 0x1FF
    operations, own = external * (bits >> 22 & 0xFF), internal * (bits >> 30 & 0xFF)
    if not bits >> 38:
        operations += _HUGE
    return external + internal, external, internal, operations + own, operations, own


def _item(config: EmulatorConfig, order: ExportOrder, index: int) -> bytes:
    """Return the part of a row that describes its taxonomy item, under the ids that were asked for."""
    rng = seeded(config.seed, order.selection, order.ids, index)

    def identifier() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    wanted = order.ids[index % len(order.ids)]
    level = index % len(_LEVELS)
    return _fields(
        {
            "taxonomy_id": wanted if order.selection == "taxonomy_ids" else identifier(),
            "taxonomy_item_id": wanted if order.selection == "taxonomy_item_ids" else identifier(),
            "taxonomy_item_label": f"{_LABELS[index % len(_LABELS)]} {index}",
            "taxonomy_item_parent_item_id": identifier() if level else None,
            "taxonomy_label": "Main Product Taxonomy",
            "taxonomy_level_id": wanted if order.selection == "taxonomy_level_ids" else identifier(),
            "taxonomy_level_label": _LEVELS[level],
        },
        escaped=index % 3 == 1,
    )


def _fields(values: dict[str, Any], *, escaped: bool) -> bytes:
    text = json.dumps(values, ensure_ascii=escaped, separators=(",", ":"))
    return text[1:-1].encode() + b","
