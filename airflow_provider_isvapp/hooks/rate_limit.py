# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Where the limit of an ISVapp connection is kept: what its own field says, else Airflow's configuration."""

from __future__ import annotations

import functools
import logging
import os
import re
from dataclasses import replace

from airflow_provider_isvapp.api.isvapp.settings import IsvappSettings
from airflow_provider_isvapp.api.redaction import password_in
from airflow_provider_isvapp.hooks.base import read_connection
from airflow_provider_isvapp.version_compat import Connection, conf, mask_secret

logger = logging.getLogger(__name__)

_ON_ONE_MACHINE = {"LocalExecutor", "SequentialExecutor", "DebugExecutor"}


def isvapp_settings(connection: Connection) -> IsvappSettings:
    """Check a connection, and complete it with Airflow's configuration.

    Blocks, like :func:`~airflow_provider_isvapp.hooks.base.read_connection`. Warns, once per process, if a file is to
    keep the limit and Airflow runs tasks on several machines.

    :raises InvalidConnection: naming the field that is wrong.
    """
    settings = read_connection(connection, IsvappSettings.from_connection, conn_type="isvapp")
    if not settings.rate_limit_storage:
        settings = replace(settings, rate_limit_storage=configured_storage())
    if settings.rate_limit_storage.partition(":")[0] in ("", "file"):
        executors = distributed_executors(conf.get("core", "executor", fallback="") or "")
        if executors:
            _warn_of_a_file(", ".join(executors))
    return settings


def configured_storage() -> str:
    """Return the storage that Airflow's configuration names; empty for a file on this machine."""
    storage = (conf.get("isvapp", "rate_limit_storage", fallback="") or "").strip()
    if password := password_in(storage):
        mask_secret(password)
    return storage


def distributed_executors(configured: str) -> list[str]:
    """List the executors, by the names of their classes, that may run tasks on several machines.

    :param configured: Airflow's ``[core] executor``. Airflow 2.11 and 3 take a list there, with class paths and
        aliases, and Airflow 3 one for each team: ``LocalExecutor,edge:path.to.EdgeExecutor;team1=CeleryExecutor``.
    """
    classes = [re.split(r"[=:.]", entry.strip())[-1] for entry in re.split(r"[,;]", configured)]
    # The pods of the KubernetesExecutor are told to be local (Helm chart, pod-template-file.kubernetes-helm-yaml) and
    # know themselves by this variable (cncf.kubernetes, pod_generator.py).
    if os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD"):
        classes.append("KubernetesExecutor")
    return sorted({name for name in classes if name} - _ON_ONE_MACHINE)


@functools.cache
def _warn_of_a_file(executors: str) -> None:
    logger.warning(
        "The request limit of ISVapp is kept in a file, which processes on other machines do not see, but %s may run "
        "tasks on several machines. Each machine would then send as many requests as all of them may. Set "
        "[isvapp] rate_limit_storage in Airflow's configuration, or the connection's extra rate_limit_storage, to a "
        "redis:// or postgresql:// URL that all machines reach.",
        executors,
    )
