# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Links from a task to its export and to what it wrote; their URLs are stored in XCom, so the UI needs no lookup."""

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

    The URL is an XCom under the key that Airflow 3 itself uses for links. Airflow 3 stores it only when a task ends
    or defers; stored by the task, it is there while the task still runs, and Airflow 2.11 finds it as well.
    """

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Let the running task have this link.

        :param url: without any secret: every user who may see the task sees it.
        """
        context["ti"].xcom_push(key=_key(cls), value=url)
        vars(context["task"]).setdefault(_PERSISTED, {})[_key(cls)] = url

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL, empty if the task has none.

        Airflow 3 calls this in the task's process, whenever the task ends or defers, and stores the URL. It logs an
        error for each XCom that is missing, and a task that fails early has none: so nothing is looked up there.
        """
        if stores_links():
            return str(vars(operator).get(_PERSISTED, {}).get(_key(type(self)), ""))
        return str(xcom_of(ti_key, key=_key(type(self))) or "")


# Where an operator keeps the links that it has persisted in this process.
_PERSISTED = "_persisted_links"


def _key(link: type[XComLink]) -> str:
    return f"_link_{link.__name__}"


# Where the plugin has its page "ISVapp exports".
URL_PREFIX = "/isvapp-exports"


class IsvappExportLink(XComLink):
    """Leads to the page "ISVapp exports", where it shows this export alone.

    The export in ISVapp's API is no page for a browser.
    """

    name = "ISVapp export"


# A link to a page that is not there would be a broken one.
EXPORT_LINKS: tuple[BaseOperatorLink, ...] = (IsvappExportLink(),) if shows_guarded_pages() else ()


def persist_export_link(context: Context, *, conn_id: str, export_id: str | None) -> None:
    """Let the running task have the link; call this as soon as the export is known.

    :param export_id: None or empty if the task was given no export, which is for others to complain about.
    """
    if EXPORT_LINKS and export_id:
        IsvappExportLink.persist(context, export_url(conn_id, export_id))


def export_url(conn_id: str, export_id: str) -> str:
    """Return the URL of an export on the page, without a host: the browser takes its own."""
    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{root}/plugin{URL_PREFIX}?{urlencode({'connection': conn_id, 'export': export_id})}"


def export_of(url: object) -> tuple[str, str] | None:
    """Read connection id and export id from a URL that :func:`export_url` made; None for anything else."""
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


# By the end of the endpoint's host. Compatible storages of others have hosts of their own.
_AWS_CONSOLES = {
    ".amazonaws.com.cn": "console.amazonaws.cn",
    ".us-gov-east-1.amazonaws.com": "console.amazonaws-us-gov.com",
    ".us-gov-west-1.amazonaws.com": "console.amazonaws-us-gov.com",
    ".amazonaws.com": "console.aws.amazon.com",
}
_GOOGLE = "https://storage.googleapis.com"


class WrittenObjectLink(XComLink):
    """Leads to the object in the console of Amazon S3 or Google Cloud Storage, or to the folder of several objects.

    Other storages have no console with known URLs, so there the link stays away.
    """

    name = "Written object"


def console_url(destination: Destination, *, placeholder: str | None = None) -> str | None:
    """Return the URL of an object in its storage's console, if it has one.

    :param destination: that something was written to.
    :param placeholder: a part of the key in whose place several objects have something else; the URL is that of the
        folder that holds them all.
    """
    key, folder = destination.key, placeholder is not None
    if placeholder is not None:
        key = key.partition(placeholder)[0].rpartition("/")[0]
        key = f"{key}/" if key else ""
    store: Any = destination.store
    if destination.kind == "s3":
        return _aws(store.client, store.bucket, key, folder=folder)
    if destination.kind == "gcs":
        return _google(store.bucket.client.api_endpoint, store.bucket.name, key, folder=folder)
    return None


def _aws(client: Any, bucket: str, key: str, *, folder: bool) -> str | None:
    # What boto has made of the connection, the configuration and the environment.
    endpoint = client.meta
    host = urlsplit(endpoint.endpoint_url).hostname or ""
    for end, console in _AWS_CONSOLES.items():
        if host.endswith(end):
            query = {"region": endpoint.region_name, "prefix": key}
            known = urlencode({name: value for name, value in query.items() if value}, safe="/", quote_via=quote)
            return f"https://{console}/s3/{'buckets' if folder else 'object'}/{quote(bucket)}?{known}"
    return None


def _google(endpoint: str, bucket: str, key: str, *, folder: bool) -> str | None:
    # An emulator has another one.
    if endpoint.rstrip("/") != _GOOGLE:
        return None
    place = f"{quote(bucket)}/{quote(key)}"
    return f"https://console.cloud.google.com/storage/browser/{place if folder else f'_details/{place}'}"
