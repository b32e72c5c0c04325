# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The link from a task to its export."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

from airflow_provider_isvapp.links.stored_link import StoredLink
from airflow_provider_isvapp.version_compat import BaseOperatorLink, Context, conf, shows_guarded_pages

# Where the plugin has its page "ISVapp exports".
URL_PREFIX = "/isvapp-exports"


class IsvappExportLink(StoredLink):
    """Leads to the page "ISVapp exports", where it shows this export alone.

    The export in ISVapp's API is no page that somebody could look at.
    """

    name = "ISVapp export"


# A link to a page that is not there would be a broken one.
EXPORT_LINKS: tuple[BaseOperatorLink, ...] = (IsvappExportLink(),) if shows_guarded_pages() else ()


def link_to_export(context: Context, *, conn_id: str, export_id: str | None) -> None:
    """Let the running task have the link; call this as soon as the export is known.

    :param export_id: None or empty if the task was given no export, which is for others to complain about.
    """
    if EXPORT_LINKS and export_id:
        IsvappExportLink.store(context, export_address(conn_id, export_id))


def export_address(conn_id: str, export_id: str) -> str:
    """Return the address of an export on the page, without a host: it is the one that the browser talks to."""
    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{root}/plugin{URL_PREFIX}?{urlencode({'connection': conn_id, 'export': export_id})}"


def export_of(address: object) -> tuple[str, str] | None:
    """Read connection id and export id from an address that :func:`export_address` made; None for anything else."""
    if not isinstance(address, str):
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    query = parse_qs(parts.query)
    if not parts.path.endswith(f"/plugin{URL_PREFIX}") or not {"connection", "export"} <= query.keys():
        return None
    return query["connection"][0], query["export"][0]
