"""How long a cell has run, as it would have on a machine that has nothing else to do.

    time of a cell = time on the clock - time in which one of its threads was ready and waited for a processor

Linux keeps the second for each thread (/proc/PID/task/TID/schedstat); time that the host of a virtual machine took away
is on top (`steal`, /proc/stat). A cell that computes is thus stopped after the seconds of processor time it was given,
a cell that sleeps after as many on the clock, and a busy machine costs neither anything. Many threads that wait for
each other are no busy machine: all of a cell's processes together have the seconds of all processors.
"""

import os
import time
from pathlib import Path

from .memory import family

PATIENCE = 6  # times the limit on the clock; a cell that got nowhere in that was starved, and is tried again


class Clock:
    """The time that the processes under `roots` take, `seconds` for each cell and `total` for all."""

    def __init__(self, roots: list[int], seconds: float, total: float):
        self.roots, self.seconds, self.total = roots, seconds, total
        self.processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.earlier = 0.0  # of cells before this one
        self.starved = False
        self.threads: dict[int, tuple[int, int]] = {}
        self.began: float | None = None
        self.begin()

    def begin(self) -> None:
        """A new cell."""
        if self.began is not None:
            self._look()
            self.earlier += self.spent
        self.cpu = self.waited = self.told = self.ahead = 0.0
        self.began = self.looked = time.monotonic()
        self.stolen = _stolen()
        self.threads = self._threads()

    def late(self) -> None:
        """The cell did not end when it was interrupted: its fault, unless it had no processor to hear of it."""
        since, ran, waited = self.looked, self.cpu, self.waited
        self._look()
        self.starved |= self.cpu - ran < 0.5 and self.waited - waited > 0.5 * (self.looked - since)

    @property
    def spent(self) -> float:
        """Seconds of this cell, as of the last look."""
        return max(0.0, self.looked - self.began - self.waited)

    def over(self) -> str:
        """Which limit is reached, in words; empty while none is."""
        self._look()
        if self.spent >= self.seconds or self.cpu >= self.seconds * self.processors:
            return f"{self.seconds} s a cell"
        if self.earlier + self.spent >= self.total:
            return f"{self.total} s for the notebook"
        if self.looked - self.began >= PATIENCE * self.seconds:
            self.starved = True
            return f"{PATIENCE * self.seconds} s on the clock, on a machine too busy to run it"
        return ""

    @property
    def total_over(self) -> bool:
        """Whether the whole notebook is past its limit."""
        return self.earlier + self.spent >= self.total

    def _look(self) -> None:
        now, threads, stolen = time.monotonic(), self._threads(), _stolen()
        passed = now - self.looked
        cpu, waits = 0, [0]
        for thread, (ran, waited) in threads.items():
            ran_before, waited_before = self.threads.get(thread, (0, 0))
            cpu += max(0, ran - ran_before)
            waits.append(waited - waited_before)
        self.cpu += cpu / 1e9
        self.told += max(waits) / 1e9 + max(0.0, stolen - self.stolen) / self.processors
        # a wait is told of when it is over; one that lasts shows as a thread that is ready and does not run
        self.ahead = self.ahead + passed if not cpu and self._ready() else 0.0
        self.waited = min(now - self.began, self.told + self.ahead)
        self.looked, self.threads, self.stolen = now, threads, stolen

    def _threads(self) -> dict[int, tuple[int, int]]:
        """Nanoseconds that each thread ran, and that it was ready and waited."""
        found = {}
        for pid in family(self.roots):
            try:
                tasks = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for task in tasks:
                try:
                    ran, waited, _ = Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()
                    found[int(task)] = int(ran), int(waited)
                except (OSError, ValueError):
                    continue
        return found

    def _ready(self) -> bool:
        """Whether some thread would run if it could."""
        for thread in self.threads:
            try:
                state = Path(f"/proc/{thread}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except (OSError, LookupError):
                continue
            if state == "R":
                return True
        return False


def _stolen() -> float:
    """Seconds, of all processors together, that the host of this virtual machine gave to others."""
    try:
        with open("/proc/stat") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, LookupError, ValueError):
        return 0.0
