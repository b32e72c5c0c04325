# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The app portfolio and a single app, as Productiv answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from airflow_provider_isvapp.api.answer import decode


@dataclass(frozen=True, kw_only=True)
class AppList(Sequence[dict[str, Any]]):
    """A sequence of apps, and what the answer says about all of them.

    :param lines: each app as the JSON bytes that the vendor sent, on one line.
    :param as_of_date: the date that the information is for, ``YYYY-MM-DD``, as sent.
    :param response_time_ms: the vendor's own processing time.
    :param extra: other fields of the answer.
    """

    lines: tuple[bytes, ...] = field(repr=False)
    as_of_date: str
    response_time_ms: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def apps(self) -> tuple[dict[str, Any], ...]:
        """The apps as Python values."""
        return tuple(decode(line, vendor="Productiv", label="the list of apps") for line in self.lines)

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
    :param as_of_date: the date that the information is for, ``YYYY-MM-DD``, as sent.
    :param fiscal_date: from API version v2 on.
    :param fiscal_date_range: from API version v2 on.
    :param extra: other fields of the answer.
    """

    app: dict[str, Any]
    as_of_date: str
    response_time_ms: float | None = None
    fiscal_date: Any = None
    fiscal_date_range: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
