# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""DAGs whose runs are searched for secrets, and one that leaks some on purpose."""

from __future__ import annotations

import base64
import os
from datetime import timedelta
from urllib.parse import quote

import pendulum
from airflow import DAG

from airflow_provider_isvapp.operators.isvapp import (
    IsvappExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.version_compat import Asset, BaseOperator
from tests.system.secrets.planted import PLANTED
from tests.system.secrets.planting_trigger import PlantingTrigger

LAKE = os.environ["ISVAPP_LAKE"]
# Connections to a vendor with a fault. The tasks are named after them.
BROKEN = os.environ["BROKEN_CONNECTIONS"].split(",")


def dag(dag_id: str, **options: object) -> DAG:
    return DAG(dag_id=dag_id, schedule=None, start_date=pendulum.datetime(2024, 1, 1, tz="UTC"), **options)


def export(conn_id: str, **options: object) -> None:
    IsvappExportOperator(
        task_id=conn_id,
        isvapp_conn_id=conn_id,
        timeframe="2024-02",
        taxonomy_ids=["taxonomy"],
        path=f"{LAKE}/{conn_id}.ndjson",
        deferrable=True,
        poll_interval=2,
        **options,
    )


with dag("by_api_key"):
    export("isvapp_api_key", outlets=[Asset("usage_by_api_key")])
    IsvappFetchSalesforceAccountsOperator(
        task_id="accounts", isvapp_conn_id="isvapp_api_key", path=f"{LAKE}/accounts.ndjson"
    )

with dag("failing"):
    for conn_id in BROKEN:
        if conn_id.startswith("isvapp"):
            export(conn_id)
        else:
            ProductivFetchAppsOperator(task_id=conn_id, productiv_conn_id=conn_id, path=f"{LAKE}/{conn_id}.ndjson")


class Plant(BaseOperator):
    """Leaks a value wherever a task can."""

    template_fields = ("hint",)

    def __init__(self, *, hint: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.hint = hint

    def execute(self, context):
        self.log.info("Sent GET /?signature=%s", quote(PLANTED["URL in a log"], safe=""))
        pair = f"client:{PLANTED['header in a log']}"
        self.log.debug("Sent Authorization: Basic %s", base64.b64encode(pair.encode()).decode())
        print({"sent": PLANTED["standard output"]})
        context["task_state_store"].set("hint", PLANTED["task state"])
        trigger = PlantingTrigger(hint=PLANTED["trigger"], file=os.environ["RELEASE_FILE"])
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(minutes=10))

    def resume(self, context, event):
        context["outlet_events"][self.outlets[0]].extra = {"hint": PLANTED["asset event"]}
        return {"hint": PLANTED["XCom"]}


with dag("planted", doc_md=PLANTED["serialized DAG"]):
    Plant(task_id="plant", hint="{{ dag_run.conf['hint'] }}", outlets=[Asset("planted")])
