# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Keeps the tokens of download addresses out of urllib3's log, which quotes every path at level DEBUG."""

from __future__ import annotations

import logging
import re

# The vendor's endpoint is /api/v1/exports/:id/download/:token.
_DOWNLOAD_PATH = re.compile(r"(/exports/[^/\s]+/download/)\S+")


class _HideDownloadTokens(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                _DOWNLOAD_PATH.sub(r"\1***", item) if isinstance(item, str) else item for item in record.args
            )
        return True


_FILTER = _HideDownloadTokens()


def hide_download_tokens() -> None:
    """Put the filter in place; more than once does no harm."""
    logging.getLogger("urllib3.connectionpool").addFilter(_FILTER)
