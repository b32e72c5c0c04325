# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""CPU time and memory of each host and server, with all their processes, read from /proc every few seconds."""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_POLLS = 2.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1024 * 1024


@dataclass(kw_only=True)
class Usage:
    """The usage of one host or server.

    :param cpu_seconds: of all its processes, ended ones included.
    :param peak_mib: proportional set size of all its processes together: memory that they share counts once.
    :param peak_process_mib: resident set size of its largest process.
    :param peak_processes: the peak number of processes.
    """

    cpu_seconds: float = 0.0
    peak_mib: float = 0.0
    peak_process_mib: float = 0.0
    peak_processes: int = 0


@dataclass(frozen=True)
class _Process:
    parent: int
    name: str
    cpu_seconds: float
    resident: int


class UsageMeter:
    """Measures every process that descends from this one, in a thread; a context manager.

    :param names: gives the names of processes that others descend from; a child of this process that is not among them
        goes by its program's name.
    """

    def __init__(self, names: Callable[[], dict[int, str]]) -> None:
        self._names = names
        self._usages: defaultdict[str, Usage] = defaultdict(Usage)
        # What a tree that was killed as a whole had used: no process was left to add it up.
        self._before: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def __enter__(self) -> UsageMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def sample(self) -> None:
        """Measure now."""
        with self._lock:
            self._sample()

    def ending(self, name: str) -> None:
        """Save the usage of a host that is about to be killed."""
        with self._lock:
            self._sample()
            self._before[name] = self._usages[name].cpu_seconds  # type: ignore[assignment]

    def usages(self) -> dict[str, Usage]:
        """Return the measurements, the largest consumers first."""
        with self._lock:
            found = sorted(self._usages.items(), key=lambda item: -item[1].cpu_seconds)
            return dict(found)

    def _run(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_POLLS):
            self.sample()

    def _sample(self) -> None:
        processes = dict(_processes())
        names = self._names()
        members: defaultdict[str, list[int]] = defaultdict(list)
        for pid in processes:
            if name := _belongs_to(pid, processes, names):
                members[name].append(pid)
        for name, pids in members.items():
            usage = self._usages[name]
            cpu = self._before[name] + sum(processes[pid].cpu_seconds for pid in pids)
            usage.cpu_seconds = max(usage.cpu_seconds, cpu)
            usage.peak_mib = max(usage.peak_mib, sum(map(_proportional_bytes, pids)) / _MIB)
            usage.peak_process_mib = max(usage.peak_process_mib, max(processes[pid].resident for pid in pids) / _MIB)
            usage.peak_processes = max(usage.peak_processes, len(pids))


def _processes() -> list[tuple[int, _Process]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue  # it has ended
        name, _, rest = text.partition("(")[2].rpartition(")")
        # The third field of proc_pid_stat(5) on.
        fields = rest.split()
        found.append(
            (
                int(entry.name),
                _Process(
                    parent=int(fields[1]),
                    name=name,
                    # Its own time and that of the children that it has waited for.
                    cpu_seconds=sum(map(int, fields[11:15])) / _TICKS,
                    resident=int(fields[21]) * _PAGE,
                ),
            )
        )
    return found


def _belongs_to(pid: int, processes: dict[int, _Process], names: dict[int, str]) -> str | None:
    us = os.getpid()
    if pid == us:
        return None
    current = pid
    while current in processes:
        if current in names:
            return names[current]
        if processes[current].parent == us:
            return processes[current].name
        current = processes[current].parent
    return None


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
