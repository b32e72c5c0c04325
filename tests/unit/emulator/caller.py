# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A plain HTTP client of the emulator. The package's clients could hide faults of the emulator, and vice versa."""

from __future__ import annotations

from typing import Any

import requests

from airflow_provider_isvapp.emulator import Emulator

ORDER = {
    "type": "TAXONOMY_ITEM",
    "aggregation": "MONTHLY",
    "timeframe": "2024-02",
    "taxonomy_ids": ["taxonomy-1"],
}


class Caller:
    """Sends an API key, or the token in ``bearer``."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.bearer = emulator.api_key

    def get(self, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> requests.Response:
        return self._send("GET", path, headers, options)

    def post(self, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> requests.Response:
        return self._send("POST", path, headers, options)

    def _send(
        self, method: str, path: str, headers: dict[str, str] | None, options: dict[str, Any]
    ) -> requests.Response:
        url = path if path.startswith("http") else self.emulator.url + path
        options.setdefault("timeout", 10)
        options.setdefault("allow_redirects", False)
        headers = {"Authorization": f"Bearer {self.bearer}"} | (headers or {})
        return requests.request(method, url, headers=headers, **options)

    def token(self, scope: str, **form: str) -> requests.Response:
        return requests.post(
            f"{self.emulator.url}/api/oauth2/token",
            auth=(self.emulator.client_id, self.emulator.client_secret),
            data={"grant_type": "client_credentials", "scope": scope} | form,
            timeout=10,
        )

    def productiv_token(self, **form: str) -> requests.Response:
        return requests.post(
            self.emulator.productiv_token_url,
            data={"grant_type": "client_credentials", "scope": "https://api.productiv.com/apps.read"} | form,
            timeout=10,
        )

    def create(self, **changes: Any) -> requests.Response:
        order = {name: value for name, value in (ORDER | changes).items() if value is not ...}
        return self.post("/api/v1/exports", json=order)

    def export(self, **changes: Any) -> str:
        """Create an export and return its id."""
        response = self.create(**changes)
        assert response.status_code == 201, response.text
        export_id: str = response.json()["data"]["id"]
        return export_id

    def record(self, export_id: str) -> dict[str, Any]:
        response = self.get(f"/api/v1/exports/{export_id}")
        assert response.status_code == 200, response.text
        data: dict[str, Any] = response.json()["data"]
        return data

    def download(self, export_id: str, **options: Any) -> requests.Response:
        return self.get(self.record(export_id)["download_url"], **options)

    def raw(self, export_id: str, **options: Any) -> bytes:
        """Return the raw bytes of a download."""
        with self.download(export_id, stream=True, **options) as response:
            body: bytes = response.raw.read(decode_content=False)
            return body
