# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One look at an export, for everybody who waits in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.api.isvapp.export_state import require_ready
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.task_log import Log


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


def look_at_export(hook: IsvappHook, export_id: str, *, log: Log) -> Look:
    """Ask for an export. A look that fails for a passing reason is not a failed export.

    :raises ProviderError: if waiting on makes no sense: the export errored or expired, or asking again cannot help.
    """
    try:
        export = hook.get_client().get_export(export_id)
        now = datetime.now(UTC)
        if require_ready(export, now=now):
            return Look(ready=export, seen="ready")
    except ProviderError as error:
        if error.permanent:
            raise
        log.warning("This look at export %s failed: %s", export_id, error)
        return Look(ready=None, seen=f"the last look failed: {error}")
    return Look(ready=None, seen=f"last seen {export.status} at {now:%H:%M:%S} UTC", waiting=str(export.status))
