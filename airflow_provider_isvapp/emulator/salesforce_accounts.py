# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The Salesforce accounts of the emulated vendor: the same for one seed."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from airflow_provider_isvapp.emulator.json_text import number
from airflow_provider_isvapp.emulator.seeded import seeded

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
# Quotes, braces, a line break, a line separator and letters beyond ASCII: what a wrong rule for rows trips over.
_NAMES = (
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
    """Make an 18-character id: 15 characters and the checksum over their capitals."""
    short = prefix.ljust(8, "0") + "".join(rng.choices(_ALPHABET, k=7))
    checksum = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, letter in enumerate(short[start : start + 5]) if letter.isupper())
        checksum += _CHECKSUM[bits]
    return short + checksum


@lru_cache(maxsize=4)
def accounts(seed: int, count: int) -> tuple[SalesforceAccount, ...]:
    """Return the vendor's active accounts."""
    rng = seeded("accounts", seed)
    return tuple(
        SalesforceAccount(
            isvapp_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            id=salesforce_id("0014x000", rng),
            name=f"{_NAMES[index % len(_NAMES)]} {_FORMS[rng.randrange(len(_FORMS))]} {index}",
        )
        for index in range(count)
    )


def account_rows(
    seed: int, count: int, *, include_health_scores: bool, include_subscriber_orgs: bool
) -> list[dict[str, Any]]:
    """Return the rows of the accounts endpoint."""
    rng = seeded("details", seed)
    rows = []
    for account in accounts(seed, count):
        # Drawn whether they are asked for or not: an account's scores do not depend on the other parameter.
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
