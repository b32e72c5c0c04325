# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Links of which a task stores the address, so that the UI can show them without asking anybody."""

from __future__ import annotations

from typing import Any

from airflow_provider_isvapp.version_compat import BaseOperatorLink, Context, xcom_of


class StoredLink(BaseOperatorLink):
    """Base of this package's extra links.

    The address is an XCom under the key that Airflow 3 itself uses for links. Airflow 3 stores it only when a task ends
    or defers; stored by the task, it is there while the task still runs, and Airflow 2.11 finds it as well.
    """

    @classmethod
    def store(cls, context: Context, address: str) -> None:
        """Let the running task have this link.

        :param address: without any secret: whoever may see the task sees it.
        """
        context["ti"].xcom_push(key=_key(cls), value=address)

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, empty if the task has none."""
        return str(xcom_of(ti_key, key=_key(type(self))) or "")


def _key(link: type[StoredLink]) -> str:
    return f"_link_{link.__name__}"
