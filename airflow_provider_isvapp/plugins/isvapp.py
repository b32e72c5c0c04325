# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The plugin that adds the page "ISVapp exports" to Airflow's UI (entry point ``airflow.plugins``).

Every Airflow process that loads plugins imports this module, even tasks. It only describes the page: the application
is imported at the first request, which only an API server gets. The provider info does not name the plugin as well:
with ``[core] lazy_discover_providers = False``, Airflow would report it as registered twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, urlsplit

# Not in version_compat, which DAG files import: they do not need plugins.
try:
    from airflow.sdk.plugins_manager import AirflowPlugin
except ImportError:
    from airflow.plugins_manager import AirflowPlugin  # type: ignore[assignment]

from airflow_provider_isvapp.links.isvapp import URL_PREFIX
from airflow_provider_isvapp.version_compat import conf, shows_guarded_pages

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class LazyApp:
    """An application that is built at its first request.

    :param build: builds the application; called once, on the event loop.
    """

    def __init__(self, build: Callable[[], App]) -> None:
        self._build = build
        self._app: App | None = None

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve a request."""
        if self._app is None:
            self._app = self._build()
        await self._app(scope, receive, send)


# The page's script registers itself under this name, which is also the menu entry.
PAGE_NAME = "ISVapp exports"

_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{colour}' stroke-width='2' "
    "stroke-linecap='round' stroke-linejoin='round'><path d='M12 3v12m0 0 4-4m-4 4-4-4'/>"
    "<path d='M4 15v4a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2v-4'/></svg>"
)


def _build() -> Any:
    from airflow_provider_isvapp.plugins.exports_app import build_app  # FastAPI and the metadata database's models

    return build_app()


def _page() -> dict[str, Any]:
    # Airflow resolves the script's URL against the page's since 3.3, but not before: an absolute path, including the
    # path of a reverse proxy, works in both.
    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return {
        "name": PAGE_NAME,
        "url_route": URL_PREFIX.strip("/"),
        "bundle_url": f"{root}{URL_PREFIX}/page/main.js",
        "destination": "nav",
        "category": "browse",
        # A data URL, since a file would need the right to read connections.
        "icon": f"data:image/svg+xml,{quote(_ICON.format(colour='#475569'))}",
        "icon_dark_mode": f"data:image/svg+xml,{quote(_ICON.format(colour='#cbd5e1'))}",
    }


class IsvappPlugin(AirflowPlugin):
    """The exports page; empty where Airflow cannot show it."""

    name = "isvapp"
    fastapi_apps = (
        [{"name": PAGE_NAME, "url_prefix": URL_PREFIX, "app": LazyApp(_build)}] if shows_guarded_pages() else []
    )
    react_apps = [_page()] if shows_guarded_pages() else []
