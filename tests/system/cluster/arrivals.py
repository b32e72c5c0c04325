# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the vendors saw: read from the emulator, which notes each arrival."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# The emulator's default API key, for the harness's own requests.
API_KEY = "demo-api-key"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One request.

    :param at: the monotonic time at which it came.
    :param seconds: until its response.
    """

    at: float
    endpoint: str
    status: int | None
    seconds: float | None

    @property
    def is_isvapp(self) -> bool:
        """Whether it counts against ISVapp's limit; Productiv is another vendor."""
        return not self.endpoint.startswith("productiv")


def most_in_a_second(moments: Iterable[float]) -> int:
    """Return the most moments within any 1,000 ms, of which the last one is excluded."""
    ordered = sorted(moments)
    most = first = 0
    for last, moment in enumerate(ordered):
        while ordered[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


class Vendors:
    """The emulator's control API.

    :param url: the emulator's base URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def arrivals(self) -> list[Arrival]:
        """Return all requests so far."""
        fields = ("at", "endpoint", "status", "seconds")
        return [Arrival(**{name: record[name] for name in fields}) for record in self._control("requests")]

    def exports(self) -> dict[str, dict[str, Any]]:
        """Return every export that was created by its id, with what was ordered."""
        return {record["id"]: record for record in self._control("exports")}

    def export_bytes(self, export_id: str) -> bytes:
        """Return the rows of an export, exactly as they are served."""
        return self._get(f"/_emulator/exports/{export_id}/content")

    def configuration(self) -> dict[str, Any]:
        """Return how the emulator was started."""
        return dict(self._control("state")["config"])

    def accounts(self) -> list[Any]:
        """Return ISVapp's response to a request of the harness."""
        response = json.loads(self._get("/api/v1/salesforce_accounts", API_KEY))
        return list(response["data"])

    def apps(self, client_id: str, client_secret: str) -> list[Any]:
        """Return Productiv's response to a request of the harness."""
        form = {
            "grant_type": "client_credentials",
            "scope": "https://api.productiv.com/apps.read",
            "client_id": client_id,
            "client_secret": client_secret,
        }
        token_url = f"{self._url}/oauth2/token"
        with urllib.request.urlopen(token_url, data=urllib.parse.urlencode(form).encode(), timeout=30) as response:
            token = json.load(response)["access_token"]
        return list(json.loads(self._get("/pull/v1/apps", token))["Apps"])

    def _control(self, what: str) -> Any:
        return json.loads(self._get(f"/_emulator/{what}"))

    def _get(self, path: str, token: str | None = None) -> bytes:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with urllib.request.urlopen(urllib.request.Request(self._url + path, headers=headers), timeout=120) as response:
            return bytes(response.read())


def by_endpoint(arrivals: Iterable[Arrival]) -> dict[str, int]:
    """Count requests by endpoint."""
    return dict(sorted(Counter(arrival.endpoint for arrival in arrivals).items()))
