# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From our errors to Airflow's: the one place that decides what a task does after a failure.

========================== ======================= =============================================
our error                  raised in the task      what Airflow does
========================== ======================= =============================================
``ExportTimeout``          AirflowSensorTimeout    fails without a retry
any with ``permanent``     AirflowFailException    fails without a retry
all others                 AirflowException        retries as the task says
========================== ======================= =============================================

All three honour a sensor's ``soft_fail``, also after a deferral. Our error stays the ``__cause__``, for code that wants
to know which one it was; it holds no secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_isvapp.errors import ExportTimeout, ProviderError
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException, AirflowSensorTimeout


def as_airflow_error(error: ProviderError) -> AirflowException:
    """Build the Airflow exception that stands for one of our errors, with the same message."""
    if isinstance(error, ExportTimeout):
        return AirflowSensorTimeout(str(error))
    if error.permanent:
        return AirflowFailException(str(error))
    return AirflowException(str(error))


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Turn our errors into Airflow's within a block or, as a decorator, within a function."""
    try:
        yield
    except ProviderError as error:
        raise as_airflow_error(error) from error
