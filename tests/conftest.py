# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""For all tests, with and without Airflow installed: so this file imports no Airflow."""

from __future__ import annotations

from tests.support.airflow_environment import airflow_database, configure
from tests.support.object_stores import s3_url
from tests.support.statsd_server import statsd

__all__ = ["airflow_database", "s3_url", "statsd"]

# Airflow reads its configuration while it is imported, so this comes before any test module is collected.
configure()
