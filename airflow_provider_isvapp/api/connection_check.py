# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a test of a connection has found, in words for whoever pressed the button."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_isvapp.api.clock_difference import clock_warning
from airflow_provider_isvapp.errors import AuthenticationRefused, ProviderError


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of a test.

    :param works: whether there is nothing left to do. Airflow 3 shows the message of a failure only, so a connection
        that works but for one thing is a failure whose message says that it works.
    :param message: what was seen and what to do, without secrets.
    """

    works: bool
    message: str


def success(message: str, *, vendor: str, clock_ahead: float | None) -> Finding:
    """Report that a connection works, unless the clocks differ."""
    warning = clock_warning(clock_ahead, vendor=vendor)
    return Finding(works=not warning, message=f"{message} But: {warning}" if warning else message)


def failure(error: ProviderError, *, vendor: str, clock_ahead: float | None) -> Finding:
    """Report an error, and that the clocks differ if they do: that may be the cause."""
    return Finding(works=False, message=f"{error} {clock_warning(clock_ahead, vendor=vendor)}".rstrip())


def refused_at_once(error: AuthenticationRefused, *, vendor: str, clock_ahead: float | None) -> Finding:
    """Report that the vendor gave a token and then did not take it, which no wrong field of the connection explains."""
    advice = clock_warning(clock_ahead, vendor=vendor) or (
        f"The client id and the client secret are right, and the clocks agree: try again, then ask {vendor}."
    )
    text = f"{vendor} gave a token and refused it at once ({error.status}): {error.said or 'without a message'}."
    return Finding(works=False, message=f"{text} {advice}")
