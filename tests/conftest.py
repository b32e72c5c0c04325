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

# A full collection visits Airflow and all of its libraries, half a million objects. They took a fifth to a third of the
# processor time of tests that make clients of boto3. A fifth of the collections keeps the memory in bounds, too.
gc.set_threshold(*gc.get_threshold()[:2], 50)
