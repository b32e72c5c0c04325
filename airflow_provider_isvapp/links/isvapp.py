# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Links from a task to its export and to what it wrote. Their URLs are XComs, so the UI reads nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from airflow_provider_isvapp.version_compat import (
    BaseOperatorLink,
    Context,
    conf,
    shows_guarded_pages,
    stores_links,
    xcom_of,
)

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination


class XComLink(BaseOperatorLink):
    """Base of this package's extra links.

    The URL is an XCom with the key that Airflow 3 uses for links. Airflow 3 stores it only when a task ends or defers.
    If the task stores it, the link exists while the task runs, and Airflow 2.11 finds it, too.
    """

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Add this link to the running task.

        :param url: without secrets: every user who may see the task sees it.
        """
        context["ti"].xcom_push(key=_key(cls), value=url)
        vars(context["task"]).setdefault(_PERSISTED, {})[_key(cls)] = url

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL, empty if the task has none.

        Airflow 3 calls this in the task's process when the task ends or defers, and stores the URL. Reading an XCom
        there would log an error if it is missing, as in a task that fails early.
        """
        if stores_links():
            return str(vars(operator).get(_PERSISTED, {}).get(_key(type(self)), ""))
        return str(xcom_of(ti_key, key=_key(type(self))) or "")


# The attribute of an operator with the links that it has persisted in this process.
_PERSISTED = "_persisted_links"


def _key(link: type[XComLink]) -> str:
    return f"_link_{link.__name__}"


# The URL prefix of the plugin's page "ISVapp exports".
URL_PREFIX = "/isvapp-exports"


class IsvappExportLink(XComLink):
    """Opens the page "ISVapp exports" for this export. The export in ISVapp's API is not a page for a browser."""

    name = "ISVapp export"


# Without the page, the link would be broken.
EXPORT_LINKS: tuple[BaseOperatorLink, ...] = (IsvappExportLink(),) if shows_guarded_pages() else ()


def persist_export_link(context: Context, *, conn_id: str, export_id: str | None) -> None:
    """Add the link to the running task. Call this as soon as the export is known.

    :param export_id: None or empty if the task has no export: then there is no link.
    """
    if EXPORT_LINKS and export_id:
        IsvappExportLink.persist(context, export_url(conn_id, export_id))


def export_url(conn_id: str, export_id: str) -> str:
    """Return the URL of an export on the page, without a host, which the browser adds."""
    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{root}/plugin{URL_PREFIX}?{urlencode({'connection': conn_id, 'export': export_id})}"


def export_of(url: object) -> tuple[str, str] | None:
    """Return the connection id and export id in a URL from :func:`export_url`; None for any other value."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    query = parse_qs(parts.query)
    if not parts.path.endswith(f"/plugin{URL_PREFIX}") or not {"connection", "export"} <= query.keys():
        return None
    return query["connection"][0], query["export"][0]


# The console by the suffix of the endpoint's host. S3-compatible storages have other hosts.
_AWS_CONSOLES = {
    ".amazonaws.com.cn": "console.amazonaws.cn",
    ".us-gov-east-1.amazonaws.com": "console.amazonaws-us-gov.com",
    ".us-gov-west-1.amazonaws.com": "console.amazonaws-us-gov.com",
    ".amazonaws.com": "console.aws.amazon.com",
}
_GOOGLE = "https://storage.googleapis.com"


WITHOUT_CONSOLE = ("/", "file:", "local:", "abfs", "az:", "adl:", "wasb")
"""Prefixes of paths in storages that :func:`console_url` has no URL for; a template may become any path."""


class WrittenObjectLink(XComLink):
    """Opens the object, or the folder of several objects, in the console of Amazon S3 or Google Cloud Storage.

    Other storages have no console with known URLs, so the link is absent.
    """

    name = "Written object"


def console_url(destination: Destination, *, placeholder: str | None = None) -> str | None:
    """Return the URL of an object in its storage's console, if there is one.

    :param destination: where the task wrote.
    :param placeholder: the part of the key that differs between several objects; the URL is that of their common
        folder.
    """
    key, folder = destination.key, placeholder is not None
    if placeholder is not None:
        key = key.partition(placeholder)[0].rpartition("/")[0]
        key = f"{key}/" if key else ""
    store: Any = destination.store
    if destination.kind == "s3":
        return _aws(store.client, store.bucket, key, folder=folder)
    if destination.kind == "gcs":
        return _google(store.client.api_endpoint, store.bucket, key, folder=folder)
    return None


def _aws(client: Any, bucket: str, key: str, *, folder: bool) -> str | None:
    # The result of connection, configuration and environment.
    endpoint = client.meta
    host = urlsplit(endpoint.endpoint_url).hostname or ""
    for end, console in _AWS_CONSOLES.items():
        if host.endswith(end):
            query = {"region": endpoint.region_name, "prefix": key}
            known = urlencode({name: value for name, value in query.items() if value}, safe="/", quote_via=quote)
            return f"https://{console}/s3/{'buckets' if folder else 'object'}/{quote(bucket)}?{known}"
    return None


def _google(endpoint: str, bucket: str, key: str, *, folder: bool) -> str | None:
    # An emulator has another endpoint.
    if endpoint.rstrip("/") != _GOOGLE:
        return None
    place = f"{quote(bucket)}/{quote(key)}"
    return f"https://console.cloud.google.com/storage/browser/{place if folder else f'_details/{place}'}"
