# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Some days of exports as ISVapp would list them: all states, and durations and sizes that differ."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

# In each download URL. Nothing that reaches a browser may contain it.
DOWNLOAD_TOKEN = "sentinel-download-token"

FAILURES = {
    2: "The taxonomy c9d7ddb2-5f0e-4a53-9b3c-2f4e8a1d7c66 does not exist any more.",
    9: f"Internal error, see https://files.example.com/log?signature={DOWNLOAD_TOKEN}",
}
WAITING, READY, FAILED, EXPIRED = 2, 5, len(FAILURES), 51
TOTAL = WAITING + READY + FAILED + EXPIRED


def export_history(*, now: datetime) -> list[dict[str, Any]]:
    """Return what the endpoint lists, the newest first; but for the times always the same."""
    choose = random.Random(1)
    records: list[dict[str, Any]] = []
    age = timedelta(seconds=25)
    for number in range(TOTAL):
        created = now - age
        seconds = choose.lognormvariate(4.6, 0.7)
        plain = int(choose.lognormvariate(18.2, 0.6))
        records.append(_record(number, created, seconds, plain, choose, now))
        age += timedelta(minutes=4 + choose.random() * 4) if number < 7 else timedelta(hours=choose.uniform(1, 9))
    return records


def _record(
    number: int, created: datetime, seconds: float, plain: int, choose: random.Random, now: datetime
) -> dict[str, Any]:
    export_id = str(uuid.UUID(int=choose.getrandbits(128), version=4))
    record: dict[str, Any] = {
        "id": export_id,
        "type": "TAXONOMY_ITEM",
        "status": "PENDING",
        "url": f"https://api.isvapp.com/api/v1/exports/{export_id}",
        "created_at": _stamp(created),
        "is_expired": False,
        "signed_copy": f"https://files.example.com/{export_id}?signature={DOWNLOAD_TOKEN}",
    }
    if number < WAITING:
        return record
    finished = created + timedelta(seconds=seconds)
    if number in FAILURES:
        return record | {"status": "ERRORED", "errored_at": _stamp(finished), "error_message": FAILURES[number]}
    expires = finished + timedelta(hours=1)
    return record | {
        "status": "COMPLETED",
        "download_url": f"{record['url']}/download/{DOWNLOAD_TOKEN}",
        "completed_at": _stamp(finished),
        "expires_at": _stamp(expires),
        "is_expired": expires <= now,
        "download_size_compressed_bytes": plain // choose.randint(9, 14),
        "download_size_uncompressed_bytes": plain,
    }


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
