# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""For all tests, with and without Airflow installed: so this file imports no Airflow."""

from __future__ import annotations

import gc

from tests.support.airflow_environment import airflow_database, configure
from tests.support.object_stores import s3_url
from tests.support.statsd_server import statsd

__all__ = ["airflow_database", "s3_url", "statsd"]

# Airflow reads its configuration while it is imported, so this comes before any test module is collected.
configure()

# A full collection visits every object of Airflow and its libraries, and tests that create boto3 clients cause many.
# A fifth as many of them keeps the memory in bounds, too.
gc.set_threshold(*gc.get_threshold()[:2], 50)
