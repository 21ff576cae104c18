"""The time of a cell: what it computes and what it sleeps, never what it waits for a processor."""

import os
import signal
import time

import pytest

from coursekit.classroom.sandbox import clock
from coursekit.classroom.sandbox.clock import PATIENCE, Clock


@pytest.fixture
def child():
    """A function that forks a child which calls a function for ever; all are ended afterwards."""
    pids = []

    def start(function) -> int:
        pid = os.fork()
        if pid == 0:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            while True:
                function()
        pids.append(pid)
        return pid

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def until_over(watched: Clock) -> str:
    while not (why := watched.over()):
        time.sleep(0.05)
    return why


def test_one_of_four_that_share_a_processor_gets_all_its_seconds_of_it(child):
    pids = [child(lambda: None) for _ in range(4)]
    watched = Clock([pids[0]], 0.6, 100)
    assert until_over(watched) == "0.6 s a cell"
    assert watched.cpu > 0.45 and not watched.starved
    assert watched.looked - watched.began > 1.2, "on a quarter of a processor 0.6 s of it take longer than 1.2 s"


def test_a_cell_that_sleeps_has_its_seconds_on_the_clock(child):
    watched = Clock([child(lambda: time.sleep(1))], 0.4, 100)
    assert until_over(watched) == "0.4 s a cell"
    assert watched.cpu < 0.2 and not watched.starved and watched.looked - watched.began >= 0.4


def test_cells_add_up_to_the_limit_of_the_notebook(child):
    watched = Clock([child(lambda: time.sleep(1))], 0.4, 1.0)
    assert until_over(watched) == "0.4 s a cell"
    watched.begin()
    assert until_over(watched) == "0.4 s a cell" and not watched.total_over
    watched.begin()
    assert until_over(watched) == "1.0 s for the notebook" and watched.total_over


@pytest.fixture
def told(monkeypatch):
    """What Linux says of the time and of one thread, under our hand."""
    now = {"clock": 0.0, "ran": 0.0, "waited": 0.0, "stolen": 0.0, "ready": False}
    monkeypatch.setattr(clock.time, "monotonic", lambda: now["clock"])
    monkeypatch.setattr(clock, "_stolen", lambda: now["stolen"])
    monkeypatch.setattr(Clock, "_threads", lambda _: {7: (int(now["ran"] * 1e9), int(now["waited"] * 1e9))})
    monkeypatch.setattr(Clock, "_ready", lambda _: now["ready"])
    return now


def test_a_machine_that_gives_no_time_at_all_starves_a_cell_and_is_not_waited_for_without_end(told):
    watched = Clock([1], 10, 1000)
    told |= {"clock": 10.0 * PATIENCE - 1, "waited": 10.0 * PATIENCE - 1}
    assert watched.over() == "" and watched.spent == 0
    told |= {"clock": 10.0 * PATIENCE, "waited": 10.0 * PATIENCE}
    assert "too busy" in watched.over() and watched.starved


def test_a_wait_that_still_lasts_is_seen_and_counted_once(told):
    watched = Clock([1], 10, 1000)
    told |= {"clock": 4.0, "ready": True}
    assert watched.over() == "" and watched.spent == 0
    told |= {"clock": 6.0, "ready": False, "ran": 1.0, "waited": 5.0}
    assert watched.over() == "" and watched.spent == 1.0


def test_what_the_host_of_a_virtual_machine_takes_is_not_the_cells(told):
    watched = Clock([1], 10, 1000)
    watched.processors = 2
    told |= {"clock": 15.0, "ran": 5.0, "stolen": 20.0}
    assert watched.over() == "" and watched.spent == 5.0


def test_many_threads_that_starve_each_other_have_the_seconds_of_all_processors(told):
    watched = Clock([1], 10, 1000)
    watched.processors = 2
    told |= {"clock": 11.0, "ran": 21.0, "waited": 10.0}
    assert watched.over() == "10 s a cell" and not watched.starved


def test_an_interrupt_that_did_not_come_through_is_the_machines_fault_where_the_cell_got_no_processor(told):
    for ran, waited, starved in ((0.1, 7.0, True), (3.0, 5.0, False), (0.0, 0.0, False)):
        told |= {"clock": 0.0, "ran": 0.0, "waited": 0.0}
        watched = Clock([1], 10, 1000)
        told |= {"clock": 10.0, "ran": 10.0}
        assert watched.over()
        told |= {"clock": 18.0, "ran": 10.0 + ran, "waited": waited}
        watched.late()
        assert watched.starved is starved
