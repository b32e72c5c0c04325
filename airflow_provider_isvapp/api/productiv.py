# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Every documented endpoint of Productiv's API, as typed calls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, overload

import msgspec

from airflow_provider_isvapp.api.auth import ClientCredentials, SecretStyle
from airflow_provider_isvapp.api.client import VendorClient, id_in_path
from airflow_provider_isvapp.api.responses import decode, parse_object, require_utf8, split_array
from airflow_provider_isvapp.api.settings import ApiVersion, ProductivSettings
from airflow_provider_isvapp.api.transport import Request
from airflow_provider_isvapp.errors import API_CHANGED, ContractBroken

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, kw_only=True)
class AppList(Sequence[dict[str, Any]]):
    """A sequence of apps, with the metadata of the response.

    :param lines: each app as the JSON bytes that the vendor sent, on one line.
    :param as_of_date: the date that the information describes, ``YYYY-MM-DD``, as sent.
    :param request: path and parameters of the request.
    :param response_time_ms: the vendor's own processing time.
    :param extra: other fields of the response.
    """

    lines: tuple[bytes, ...] = field(repr=False)
    as_of_date: str
    request: Mapping[str, str]
    response_time_ms: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def apps(self) -> tuple[dict[str, Any], ...]:
        """The apps as Python values."""
        return tuple(decode(line, vendor="Productiv", label="the list of apps") for line in self.lines)

    @property
    def as_of(self) -> datetime:
        """Midnight UTC of the date that the information describes.

        :raises ContractBroken: if it is not a date.
        """
        if _DATE.fullmatch(self.as_of_date):
            try:
                return datetime.fromisoformat(f"{self.as_of_date}T00:00:00+00:00")
            except ValueError:
                pass
        raise ContractBroken(
            f"Productiv sent its list of apps with the 'AsOfDate' {self.as_of_date[:40]!r}, which is not a date "
            f"(YYYY-MM-DD). {API_CHANGED}"
        )

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[dict[str, Any], ...]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | tuple[dict[str, Any], ...]:
        return self.apps[index]

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True, kw_only=True)
class AppDetails:
    """One app with all its attributes.

    :param app: the app as sent.
    :param as_of_date: the date that the information describes, ``YYYY-MM-DD``, as sent.
    :param fiscal_date: the fiscal date, from API version v2 on.
    :param fiscal_date_range: the fiscal year's first and last day, from API version v2 on.
    :param extra: other fields of the response.
    """

    app: dict[str, Any]
    as_of_date: str
    response_time_ms: float | None = None
    fiscal_date: Any = None
    fiscal_date_range: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


_NULL = msgspec.Raw(b"null")


class ProductivClient(VendorClient[ProductivSettings]):
    """A client of Productiv for one connection; the parameters are those of :class:`VendorClient`."""

    def _authorizer(self, settings: ProductivSettings) -> ClientCredentials:
        return ClientCredentials(
            self._transport,
            token_url=settings.auth_url,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            style=SecretStyle.FORM,
            url_field="extra auth_url",
            endpoint="productiv_token",
            on_new_token=self._on_new_token,
            open_storage=self._open_storage,
            clock=self._clock,
        )

    def list_apps(
        self, *, include_inactive: bool = False, verbose: bool = False, api_version: ApiVersion | None = None
    ) -> AppList:
        """List the app portfolio, which the vendor sends in one response.

        :param include_inactive: also list inactive apps.
        :param verbose: list all attributes of each app instead of the summary.
        :param api_version: overrides the connection's.
        """
        switches = {"includeInactive": include_inactive, "verbose": verbose}
        path = f"/pull/{api_version or self._settings.api_version}/apps"
        params = {name: "true" for name, wanted in switches.items() if wanted}
        fields = self._get(path, "productiv_apps", params=params)
        context = {"vendor": self.vendor, "label": f"GET {path}", "name": "Apps"}
        apps = require_utf8(split_array(self._take(fields, "Apps", path), **context), **context)
        return AppList(lines=tuple(apps), request={"path": path, **params}, **self._common(fields, path))

    def get_app(self, application_id: str, *, api_version: ApiVersion | None = None) -> AppDetails:
        """Show one app with all its attributes.

        :param application_id: ``ApplicationId`` of a listed app.
        :param api_version: overrides the connection's.
        """
        path = f"/pull/{api_version or self._settings.api_version}/apps/{id_in_path('application_id', application_id)}"
        fields = self._get(path, "productiv_app")
        app = self._decoded(self._take(fields, "App", path), path)
        if not isinstance(app, dict):
            raise ContractBroken(f"{self.vendor} responded to GET {path}, but 'App' is not an object. {API_CHANGED}")
        fiscal = {
            "fiscal_date": self._decoded(fields.pop("FiscalDate", _NULL), path),
            "fiscal_date_range": self._decoded(fields.pop("FiscalDateRange", _NULL), path),
        }
        return AppDetails(app=app, **fiscal, **self._common(fields, path))

    def _get(self, path: str, endpoint: str, params: dict[str, str] | None = None) -> dict[str, msgspec.Raw]:
        label = f"GET {path}"
        request = Request(
            method="GET",
            url=f"{self._base_url}{path}",
            label=label,
            endpoint=endpoint,
            scope=self._settings.scope,
            params=params,
            headers={"Accept": "application/json", "Content-Type": "application/json"},
        )
        response = self._fetch(request)
        return parse_object(response, vendor=self.vendor, label=label, redact=self._transport.redact)

    def _take(self, fields: dict[str, msgspec.Raw], name: str, path: str) -> msgspec.Raw:
        if name not in fields:
            raise ContractBroken(
                f"{self.vendor} responded to GET {path} without {name!r}. Check the connection's host and api_version."
            )
        return fields.pop(name)

    def _common(self, fields: dict[str, msgspec.Raw], path: str) -> dict[str, Any]:
        as_of_date = self._decoded(self._take(fields, "AsOfDate", path), path)
        if not isinstance(as_of_date, str) or not as_of_date:
            raise ContractBroken(f"{self.vendor} responded to GET {path}, but 'AsOfDate' is not a date. {API_CHANGED}")
        response_time = self._decoded(fields.pop("ResponseTimeMs", _NULL), path)
        return {
            "as_of_date": self._transport.redact(as_of_date),
            "response_time_ms": response_time if isinstance(response_time, int | float) else None,
            "extra": {name: self._decoded(value, path) for name, value in fields.items()},
        }

    def _decoded(self, value: msgspec.Raw, path: str) -> Any:
        return decode(value, vendor=self.vendor, label=f"GET {path}")
