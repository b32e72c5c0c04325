# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One look at an export, for everybody who waits in a worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from airflow_provider_isvapp.api.isvapp.export_state import may_appear, require_ready
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import NotFound, ProviderError
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.log_messages import Log

SECONDS_BETWEEN_LOOKS = 2.0
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look has shown.

    :param ready: the export, if it can be downloaded.
    :param seen: a few words for the message of a wait that comes to nothing.
    :param waiting: the export's status, if it is worth waiting; None too if the look failed.
    """

    ready: Export | None
    seen: str
    waiting: str | None = None


def look_at_export(hook: IsvappHook, export_id: str, *, known_since: datetime, log: Log) -> Look:
    """Ask for an export. A look that fails for a passing reason is not a failed export.

    :param known_since: when the task first had the export's id, aware.
    :raises ProviderError: if waiting on makes no sense: the export errored or expired, or asking again cannot help.
    """
    try:
        export = hook.get_client().get_export(export_id)
        now = datetime.now(UTC)
        if require_ready(export, now=now):
            return Look(ready=export, seen="ready")
    except ProviderError as error:
        new = isinstance(error, NotFound) and may_appear(known_since=known_since, now=datetime.now(UTC))
        if error.permanent and not new:
            raise
        log.warning("This look at export %s failed: %s", export_id, error)
        return Look(ready=None, seen=f"the last look failed: {error}")
    return Look(ready=None, seen=f"last seen {export.status} at {now:%H:%M:%S} UTC", waiting=str(export.status))


def when_known(call: Callable[[], Result], *, known_since: datetime, log: Log) -> Result:
    """Make a call about an export, and make it again while the vendor may not know the export yet.

    :param known_since: when the task first had the export's id, aware.
    """
    while True:
        try:
            return call()
        except NotFound as error:
            if not may_appear(known_since=known_since, now=datetime.now(UTC)):
                raise
            log.warning("Asking again in %.0f s, since the export may be new: %s", SECONDS_BETWEEN_LOOKS, error)
        time.sleep(SECONDS_BETWEEN_LOOKS)
