# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How a wait ends, and when it polls."""

from __future__ import annotations

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.triggers import poller, waiters
from airflow_provider_isvapp.triggers.waiters import interval_after
from tests.airflow.triggers.polling import one_wait, run


class TestOutcomes:
    def test_errored_carries_the_vendors_message(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        isvapp.inject(Fault(endpoint="show_export", kind="export_errors", message="Salesforce said no", times=1))
        with IsvappHook() as hook:
            hook.get_export(pending)
        clock.advance(61)

        with pytest.raises(errors.ExportFailed, match="Salesforce said no"):
            run(one_wait(pending))

    def test_expired_is_its_own_error(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        clock.advance(61)
        with IsvappHook() as hook:
            hook.get_export(pending)
        clock.advance(3700)

        with pytest.raises(errors.ExportExpired, match=f"Export {pending} expired"):
            run(one_wait(pending))

    def test_a_deadline_that_passes_names_the_last_state(self, isvapp: Emulator, pending: str) -> None:
        with pytest.raises(
            errors.ExportTimeout, match=r"did not complete within \d+ s; last seen PENDING at \d\d:\d\d:\d\d UTC"
        ):
            run(one_wait(pending, seconds=0.2))

    def test_a_deadline_that_passes_during_an_outage_names_the_last_error(self, isvapp: Emulator, pending: str) -> None:
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503, times=None))

        with pytest.raises(errors.ExportTimeout, match=r"the last poll failed: ISVapp gave no usable response .* 503"):
            run(one_wait(pending, seconds=0.2))

    def test_an_export_is_polled_even_if_the_deadline_is_past(
        self, isvapp: Emulator, pending: str, clock: ManualClock
    ) -> None:
        clock.advance(61)

        assert run(one_wait(pending, seconds=-600.0)).id == pending

    def test_the_last_poll_is_at_the_deadline(
        self, isvapp: Emulator, pending: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Without a deadline, the first poll would come later than `run` waits.
        monkeypatch.setattr(waiters, "FIRST_INTERVAL", 60.0)
        with pytest.raises(errors.ExportTimeout):
            run(one_wait(pending, seconds=0.3, poll_interval=600.0))

        assert isvapp.request_counts()["list_exports"] == 1

    def test_a_request_that_hangs_past_the_deadline_ends_the_wait(
        self, isvapp: Emulator, pending: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(poller, "DEADLINE_GRACE", 0.1)
        isvapp.inject(Fault(endpoint="list_exports", kind="delay", seconds=60.0))

        # Long before the response, and before `run` times out.
        with pytest.raises(errors.ExportTimeout, match="not seen yet"):
            run(one_wait(pending, seconds=0.1))


@pytest.mark.parametrize(
    ("waited", "poll_interval", "expected"),
    [(0, 30, 2), (8, 30, 2), (20, 30, 5), (60, 30, 15), (120, 30, 30), (3600, 30, 30), (0, 1, 1), (3600, 1, 1)],
)
def test_intervals_grow_with_the_wait_up_to_the_poll_interval(
    waited: float, poll_interval: float, expected: float
) -> None:
    assert interval_after(waited, poll_interval=poll_interval) == expected
