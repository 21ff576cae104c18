"""Grade on many machines: each submission is one pure task of a Dask cluster, from bytes to plain data.

The workers need coursekit and a sandbox, and no access to the course: the lab goes to them as one archive, results come
back as JSON-like data, and only this machine writes grades. Dask's own messages are pickles between machines that trust
each other: use TLS, and keep the scheduler off the open network.
"""

import atexit
import itertools
import threading
import time

from ..labs.bundle import Bundle
from ..records.course import CourseError
from ..sandbox import levels
from ..sandbox.limits import Limits
from .local import Workshop, lost

_workshops: dict[str, Workshop] = {}
_guard = threading.Lock()


def grade_on_worker(bundle: bytes, task: dict, limits: dict, floor: str) -> dict:
    """Grade one submission on the worker this runs on; what it starts stays warm for the next one of the same lab."""
    from ..records.files import digest

    name = digest(bundle, repr(sorted(limits.items())))
    with _guard:
        if name not in _workshops:
            level = levels.probe()
            if level.name > floor:
                return lost(f"this worker's sandbox level is {level.name}, asked was {floor}: {'; '.join(level.tried)}")
            _workshops[name] = Workshop(Bundle.from_bytes(bundle), Limits(**limits), level).__enter__()
            atexit.register(_workshops[name].__exit__)
    return _workshops[name].grade(task)


class ClusterPool:
    """A context in which submissions are graded by the workers of a Dask scheduler."""

    def __init__(self, address: str, bundle: Bundle, limits: Limits, *, floor: str = "B"):
        self.address, self.bundle, self.limits, self.floor = address, bundle, limits, floor
        self.run = next(_runs)

    def __enter__(self) -> "ClusterPool":
        try:
            from distributed import Client
        except ImportError:
            raise CourseError("--cluster needs Dask: pip install 'coursekit[cluster]'") from None
        try:
            self.client = Client(self.address, timeout=20)
        except (OSError, TimeoutError, ValueError) as error:
            raise CourseError(f"no Dask scheduler answers at {self.address}: {error}") from None
        self.archive = self.client.scatter(self.bundle.to_bytes(), broadcast=True)
        return self

    @property
    def capacity(self) -> int:
        """Tasks at a time: as many as the workers that are there now have threads, and some that wait for one."""
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, RuntimeError, KeyError):  # KeyError: what Dask knows of a scheduler that is gone
            raise CourseError(
                f"the Dask scheduler at {self.address} does not answer any more; what was graded is kept: "
                "run it again to go on"
            ) from None
        threads = sum(worker["nthreads"] for worker in workers.values())
        return max(2, 2 * threads)

    def submit(self, task: dict, key: str):
        """Begin to grade a submission; Dask moves it to another worker if its worker is lost."""
        name = f"coursekit-{self.run}-{key}"
        return self.client.submit(
            grade_on_worker, self.archive, task, self.limits.to_dict(), self.floor, key=name, pure=True, retries=0
        )

    def finished(self, running: list, *, wait: float = 1.0) -> list[tuple]:
        """Tasks that have ended, waiting a little for one."""
        deadline = time.monotonic() + wait
        while not any(future.done() for future in running) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [(future, _result(future)) for future in running if future.done()]

    def __exit__(self, *_) -> None:
        self.client.close()


_runs = itertools.count()


def _result(future) -> dict:
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    return lost(f"the worker was lost: {type(error).__name__ if error else future.status}")
