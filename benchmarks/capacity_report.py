# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a planner wants to know of simulated syncs, as Markdown: how long, what binds, what would help, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from airflow_provider_isvapp.limiter.schedule import Pace
from benchmarks.capacity_model import FILE_LIFE, Endpoint, Outcome, simulate
from benchmarks.capacity_plan import MOST_EXPORTS, Auth, Plan, Tasks

# From this share on, a resource is called the one that binds: a sync begins and ends with phases that wait for exports.
BUSY = 0.6


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def duration(seconds: float) -> str:
    """Write a time as a human would: 48 s, 12 min, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def binding(outcome: Outcome) -> str:
    """Name the resource that holds the sync up.

    Requests come before slots: slots that wait for permits look busy, too.
    """
    for name in ("requests", "cores", "download line", "slots"):
        if outcome.utilisation.get(name, 0.0) >= BUSY:
            return NAMES[name]
    return "none: exports and Airflow's own steps take this long"


NAMES = {"requests": "requests", "slots": "task slots", "cores": "processors", "download line": "download line"}


def growth(outcomes: Sequence[Outcome]) -> str:
    """One line a size of the sync."""
    rows = [
        [
            f"{outcome.plan.exports:,}",
            duration(outcome.seconds),
            f"{outcome.requests.total():,}",
            *(f"{outcome.utilisation.get(name, 0.0):.0%}" for name in NAMES),
            f"{outcome.most_deferred:,}",
            binding(outcome),
        ]
        for outcome in outcomes
    ]
    head = ["exports", "the sync takes", "requests", *(f"{name} used" for name in NAMES.values())]
    return table([*head, "most deferred at once", "what binds"], rows)


def endpoints(outcome: Outcome) -> str:
    """The requests of one sync by endpoint."""
    total = outcome.requests.total() or 1
    rows = [[name, f"{count:,}", f"{count / total:.0%}"] for name, count in outcome.requests.most_common()]
    return table(["endpoint", "requests", "share"], rows)


def alternatives(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """What could be changed, one thing at a time."""
    if plan.auth is Auth.OAUTH2:
        yield "an API key instead of OAuth2 (no token requests)", replace(plan, auth=Auth.API_KEY)
    if plan.tasks is not Tasks.ONE:
        yield "one deferred task an export (IsvappExportOperator)", replace(plan, tasks=Tasks.ONE)
    more = 2 * plan.requests_per_second
    yield f"{more:g} requests a second (the vendor's decision)", replace(plan, requests_per_second=more)
    yield (
        f"{2 * plan.task_slots} task slots",
        replace(plan, slots=2 * plan.slots, active_tasks=2 * plan.task_slots),
    )
    yield f"{2 * plan.cores:g} processors a worker", replace(plan, cores=2 * plan.cores)
    double = {"bandwidth": 2 * plan.bandwidth, "task_bandwidth": 2 * plan.task_bandwidth}
    yield f"{double['bandwidth']:g} MB/s to download", replace(plan, **double)
    if plan.triggerers > 1:
        yield "one triggerer", replace(plan, triggerers=1)
    else:
        yield "two triggerers", replace(plan, triggerers=2)
    yield "exports that are ready at once", replace(plan, export_seconds=(0.0, 0.0))


def what_if(outcome: Outcome) -> str:
    """How long the same sync takes if one thing is different."""
    rows = []
    for label, plan in alternatives(outcome.plan):
        other = simulate(plan)
        change = other.seconds / outcome.seconds - 1 if outcome.seconds else 0.0
        rows.append([label, duration(other.seconds), "no difference" if abs(change) < 0.01 else f"{change:+.0%}"])
    return table(["with", "the sync takes", "difference"], rows)


def warnings(outcome: Outcome) -> list[str]:
    """What makes a plan fail rather than last."""
    plan, found = outcome.plan, []
    if outcome.expired:
        found.append(
            f"{outcome.expired:,} of {plan.exports:,} exports expire before their download begins: the vendor keeps a "
            f"file for {duration(FILE_LIFE)}. Start fewer at once (max_active_tis_per_dag), or use one task an export."
        )
    if outcome.longest_wait > 600:
        found.append(f"A request waits {duration(outcome.longest_wait)} for its turn; after 10 min a task gives up.")
    if outcome.most_deferred > 1000 * plan.triggerers:
        found.append("More tasks are deferred than the triggerers take (triggerer.capacity, 1,000 each).")
    return found


def shortest_by_requests(plan: Plan, requests: int) -> float:
    """Seconds that so many requests take at least, with nothing else in the way."""
    pace = Pace.of(plan.requests_per_second)
    return requests * min(pace.hold + plan.latency, pace.lease) / pace.permits


def most_exports(plan: Plan, window: float) -> int:
    """The largest sync that is over within so many seconds, to 2 per cent; 0 if not even one export is."""
    one = simulate(replace(plan, exports=1, accounts=0))
    # No faster than its requests, of which the polls are shared.
    cost = shortest_by_requests(plan, one.requests.total() - one.requests[Endpoint.LIST])
    fits, fails = (0, 0.0), (min(int(window / cost) + 2, MOST_EXPORTS + 1), window + one.seconds)
    halve = False
    while fails[0] - fits[0] > max(1, fails[0] // 50):
        between = (window - fits[1]) / (fails[1] - fits[1])
        guess = fits[0] + int((fails[0] - fits[0]) * (0.5 if halve else between))
        guess = min(max(guess, fits[0] + 1), fails[0] - 1)
        seconds = simulate(replace(plan, exports=guess)).seconds
        fits, fails = ((guess, seconds), fails) if seconds <= window else (fits, (guess, seconds))
        # Interpolation comes near quickly, but from one side only.
        halve = not halve
    return fits[0]


def verdict(outcome: Outcome, window: float) -> str:
    """What to do to get the sync done within so many seconds."""
    plan = outcome.plan
    wish = f"{plan.exports:,} exports within {duration(window)}"
    if outcome.seconds <= window:
        return f"{wish}: fits. Up to about {most_exports(plan, window):,} exports do."
    least = shortest_by_requests(plan, outcome.requests.total())
    if least <= window:
        faster = {label: simulate(other).seconds for label, other in alternatives(plan)}
        best = min(faster, key=faster.__getitem__)
        return (
            f"{wish}: does not fit, and the requests are not why ({duration(least)} of them). The change that helps "
            f"most: {best} ({duration(faster[best])}). About {most_exports(plan, window):,} exports fit as it is."
        )
    lean = simulate(replace(plan, auth=Auth.API_KEY, tasks=Tasks.ONE))
    lean_least = shortest_by_requests(lean.plan, lean.requests.total())
    text = f"{wish}: does not fit: {outcome.requests.total():,} requests take {duration(least)} at least."
    if lean.requests.total() < outcome.requests.total():
        text += (
            f" With an API key and one task an export it is {lean.requests.total():,} requests, and the sync takes "
            f"{duration(lean.seconds)}."
        )
    if lean_least > window:
        wanted = _rate_for(lean.plan, lean.requests.total(), window)
        text += (
            f" No more workers can help: ask the vendor for at least {wanted:g} requests a second,"
            " or spread the sync over more time."
        )
    return text


def _rate_for(plan: Plan, requests: int, window: float) -> int:
    """The smallest whole number of requests a second at which so many requests fit."""
    rate = 1
    while shortest_by_requests(replace(plan, requests_per_second=float(rate)), requests) > window:
        rate += 1
    return rate
