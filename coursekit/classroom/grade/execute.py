"""Run a notebook as nbgrader does, but let nothing in it stop, mislead or exhaust the grader.

A preprocessor for `c.Autograde.autograde_preprocessors`. It holds a limit for each cell and for all of them, a budget
of output, and keeps the points earned before a kernel died. What it saw is in `resources["coursekit"]`.

A test cell has two lives. Its visible check runs in the kernel and speaks to the student. Its question is drawn by the
judge, asked in the kernel, and judged by the judge: that verdict, and nothing else, gives points.
"""

import contextlib
import copy
import json
import os
import re
import secrets
import signal
import threading
import time
from pathlib import Path
from queue import Empty

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from nbgrader import utils
from nbgrader.preprocessors import Execute

from coursekit._wire import MAX_BYTES
from coursekit.question import MIME, Question

from ..judge.process import Judge, JudgeFailed
from ..labs.source import without
from ..sandbox import memory
from ..sandbox.clock import PATIENCE, Clock
from ..sandbox.limits import Limits
from ..sandbox.provisioner import BoxKernelManager

SHOWN = ("stream", "display_data", "execute_result", "update_display_data", "error")
COUNTED = (*SHOWN, "comm_open", "comm_msg")
UNFINISHED = ("timeout", "not run", "stopped")
MAX_OUTPUTS = 1000
LOOK_SECONDS = 0.25


class BoxExecute(Execute):
    """nbgrader's Execute with kernels in boxes and a judge, who alone gives points."""

    def __init__(self, *, limits: Limits, judge: Judge, **kwargs):
        super().__init__(kernel_manager_class=BoxKernelManager, **kwargs)
        self.limits, self.judge = limits, judge
        self.timeout = (PATIENCE + 1) * self.limits.cell_seconds + 10  # our clock decides before nbclient's does
        self.startup_timeout = 300
        self.interrupt_on_timeout = True
        self.raise_on_iopub_timeout = True
        self.allow_errors = True
        self.record_timing = False
        self.shutdown_kernel = "immediate"
        self.iopub_timeout = 8  # for what a cell has printed to arrive when it has ended or was interrupted

    def preprocess(self, nb, resources, km=None):
        """Run the notebook; every code cell ends with outputs that say what became of it."""
        self.running, self.limit = False, ""
        self.stopped: str | None = None
        self.overflow: str | None = None
        self.printed = 0
        self.cpu_seen = 0.0
        self.nonce = self.reply = None
        self.seen = {
            "cells": {},
            "questions": {},
            "flags": [],
            "limits": [],
            "starved": False,
            "dead": False,
            "kernel": {},
        }
        resources["coursekit"] = self.seen
        try:
            nb, resources = super().preprocess(nb, resources, km)
        except (DeadKernelError, RuntimeError) as error:
            if not self.stopped:  # before the first cell: the fault is ours
                raise RuntimeError(f"the kernel did not start: {error}") from error
        nb.metadata.pop("widgets", None)
        return nb, resources

    def start_new_kernel_client(self):
        client = super().start_new_kernel_client()
        for channel in (client.shell_channel, client.iopub_channel):
            channel.get_msg = _look_again(channel.get_msg, self._over if channel is client.shell_channel else None)
        self.provisioner = self.km.provisioner
        roots = [self.provisioner.pid] + ([self.provisioner.box.pid] if self.provisioner.box else [])
        self.clock = Clock(roots, self.limits.cell_seconds, self.limits.total_seconds)
        threading.Thread(target=self._watch_memory, args=(self.provisioner,), daemon=True).start()
        return client

    def _cleanup_kernel(self):
        provisioner = self.km.provisioner if self.km else None
        super()._cleanup_kernel()
        if provisioner is not None:
            self.seen["kernel"] = provisioner.used

    def preprocess_cell(self, cell, resources, index):
        """Run one cell, and judge it if it is a test."""
        if cell.cell_type != "code":
            return cell, resources
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        test = utils.is_grade(cell) and not utils.is_solution(cell)
        began, cpu = time.monotonic(), self._cpu()
        outcome = self._test(cell, index) if test else self._plain(cell, index)
        if name or outcome not in ("ran", "failed"):
            used = {"seconds": round(time.monotonic() - began, 3), "cpu_s": round(self._cpu() - cpu, 3)}
            self.seen["cells"][name or f"cell {index + 1}"] = {"outcome": outcome, **used}
        if self.clock.starved:
            self.seen["starved"] = True  # it did not get the time it was given: the machine was loaded
        return cell, resources

    def _plain(self, cell, index) -> str:
        error, _ = self._run(cell, index)
        return error if error in UNFINISHED else "failed" if error else "ran"

    def _test(self, cell, index) -> str:
        """Let the visible check speak, ask the question, and leave the outputs from which nbgrader reads the score."""
        question = Question.of_cell(cell.source)
        trial = copy.deepcopy(cell)
        trial.source = without(cell.source, "HIDDEN TESTS")
        error, reply = self._run(trial, index)
        self.nb.cells[index] = cell
        spoken = [_as_stdout(o) for o in trial.outputs if o.output_type != "execute_result"]
        if question is None:  # a lab of somebody else under nbgrader's own command: its cells are its only test
            cell.outputs = spoken
            return error if error in UNFINISHED else "failed" if error else "passed"
        if error in ("stopped", "not run"):
            cell.outputs = spoken
            return error
        outcome, sentence, shown = self._ask(question, cell, index)
        outputs = [*spoken, *shown]
        if outcome == "passed":
            cell.outputs = [_error_as_text(o) for o in outputs]
            return outcome
        if sentence is not None:
            outputs.append(
                _error("NotYetRight", sentence)
            )  # behind what the visible check said: that is the same for all
        errors = [o for o in outputs if o.output_type == "error"]
        cell.outputs = errors + [o for o in outputs if o.output_type != "error"]
        return outcome

    def _ask(self, question: Question, cell, index) -> tuple[str, str | None, list]:
        """What became of a question, the judge's sentence if there is one, and what the kernel showed meanwhile."""
        name = question.name
        try:
            drawn = self.judge.draw(question)
            record = {"seed": drawn["seed"], "question": drawn["hash"]}
            self.seen["questions"][name] = record
            self.nonce, self.reply = secrets.token_hex(16), None
            call = f"serve({drawn['request']!r}, {self.nonce!r})"
            asking = new_code_cell(f'__import__("coursekit.question", fromlist=["serve"]).{call}')
            asking.metadata["nbgrader"] = cell.metadata.nbgrader
            error, answer = self._run(asking, index, history=False)
            self.nb.cells[index] = cell
            shown = [_as_stdout(o) for o in asking.outputs if o.output_type != "execute_result"]
            if error in UNFINISHED:
                return error, None, shown
            if self.reply is None:
                why = f"{error}: {str(answer.get('evalue', ''))[:500]}" if error else "it sent nothing"
                return "failed", f"the question could not be asked in this notebook ({why})", shown
            sentence = self.judge.verdict(self.reply)
        except JudgeFailed as failed:
            self.nb.cells[index] = cell
            self.seen["flags"].append(f"{name}: its judge failed, the answer was kept ({failed})")
            self.seen["questions"].setdefault(name, {})["reply"] = self.reply
            return "unjudged", "this answer could not be judged; a person will look at it", []
        finally:
            self.nonce = None
        return ("passed", None, shown) if sentence is None else ("failed", sentence, shown)

    def _run(self, cell, index, *, history=True) -> tuple[str | None, dict]:
        """Execute a cell: the name of its error or None, and the kernel's reply."""
        if self.stopped:
            cell.outputs = [_error("NotRun", f"This cell was not run: {self.stopped}.")]
            return "not run", {}
        replies = []
        self.on_cell_executed = lambda **kw: replies.append(_writable(kw["execute_reply"]["content"]))
        self.cell_bytes, self.cell_outputs = 0, 0
        self.clock.begin()
        self.running = True
        try:
            self.execute_cell(cell, index, store_history=history)
        except DeadKernelError:
            self._stop(cell, self.overflow or "the kernel died", died=not self.overflow)
            return "stopped", {}
        except CellTimeoutError:  # the interrupt was ignored, or what the kernel sent could not be received
            self.clock.late()
            why = f"the cell ran past its limit ({self.limit}) and ignored the interrupt"
            if replies and replies[-1].get("ename") != "CellTimeoutError":
                why = f"a single output was larger than the limit of {self.limits.output_mb} MB"
            self._stop(cell, self.overflow or why)
            return "stopped", {}
        except Exception as error:  # forged, or cut off where the kernel could start no thread to send it
            why = f"a message from the kernel could not be read ({type(error).__name__})"
            self._stop(cell, self.overflow or why, died=not self.overflow)
            return "stopped", {}
        finally:
            self.running = False
        if self.overflow:  # its answer came before what it printed was counted
            self._stop(cell, self.overflow)
            return "stopped", {}
        reply = replies[-1] if replies else {}
        if reply.get("status") != "error":
            return None, reply
        if reply.get("ename") == "CellTimeoutError" and not reply.get("execution_count"):
            limit = self.limit
            where = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell {index + 1}")
            self.seen["limits"].append(f"{where} was stopped at its time limit ({limit})")
            cell.outputs.append(_error("CellTimeoutError", f"This cell was stopped at its time limit ({limit})."))
            if self.clock.total_over:
                self._stop(None, f"the notebook ran longer than {self.limits.total_seconds} s")
            return "timeout", reply
        if not any(o.output_type == "error" for o in cell.outputs):
            cell.outputs.append(_error(reply.get("ename", "Error"), reply.get("evalue", "")))
        return reply.get("ename", "Error"), reply

    def _stop(self, cell, why: str, *, died: bool = False) -> None:
        """No further cell is run; what earlier cells have earned stays."""
        self.stopped = why
        self.seen["dead"] = self.seen["dead"] or died
        self.seen["limits"].append(why)
        self._cpu()  # for the last time
        if cell is not None:
            cell.outputs = [*cell.get("outputs", []), _error("KernelStopped", f"Stopped here: {why}.")]
        self._end_kernel()

    def _end_kernel(self) -> None:
        if self.provisioner.handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.provisioner.handle, signal.SIGKILL)

    def _over(self) -> bool:
        """Whether the running cell has had its time; which limit it was is kept to be told."""
        self.limit = self.clock.over() if self.running else ""
        return bool(self.limit)

    def process_message(self, msg, cell, cell_index):
        """Count what a cell prints, keep no more of it than allowed, and stop a kernel that floods."""
        if self._is_reply(msg):
            return None
        if msg["msg_type"] not in COUNTED:
            return super().process_message(msg, cell, cell_index)
        size = _size(msg["content"])
        self.printed += size
        if self.printed > self.limits.output_mb << 20:
            if not self.overflow:
                self.overflow = f"the notebook printed more than {self.limits.output_mb} MB"
                self._end_kernel()
            return None
        if isinstance(msg["content"].get("data"), dict):  # the formgrader would run it in the browser of whoever grades
            msg["content"]["data"].pop("application/javascript", None)
        if msg["msg_type"] not in SHOWN:
            return self._process(msg, cell, cell_index)
        before, allowed = self.cell_bytes, self.limits.cell_output_kb << 10
        self.cell_bytes += size
        self.cell_outputs += 1
        if msg["msg_type"] != "error" and (self.cell_bytes > allowed or self.cell_outputs > MAX_OUTPUTS):
            if before > allowed or self.cell_outputs > MAX_OUTPUTS + 1:
                return None
            note = f"\n... the output of this cell was cut at {self.limits.cell_output_kb} kB\n"
            text = msg["content"].get("text", "") if msg["msg_type"] == "stream" else ""
            cut = {"name": "stdout", "text": text[: allowed - before] + note}
            header = {**msg["header"], "msg_type": "stream"}
            msg = {**msg, "msg_type": "stream", "header": header, "content": cut}
        return self._process(msg, cell, cell_index)

    def _is_reply(self, msg) -> bool:
        """Whether this is the kernel's answer to the question that is being asked; the first one counts."""
        data = msg["content"].get("data") if msg["msg_type"] == "display_data" else None
        answer = data.get(MIME) if isinstance(data, dict) else None
        if self.nonce is None or self.reply is not None or not isinstance(answer, dict):
            return False
        reply = answer.get("reply")
        if answer.get("nonce") != self.nonce or not isinstance(reply, str) or len(reply) > 2 * MAX_BYTES:
            return False
        self.reply = reply
        return True

    def _process(self, msg, cell, cell_index):
        """nbclient's handling; a message that it cannot make sense of, forged perhaps, is dropped."""
        try:
            return super().process_message({**msg, "content": _writable(msg["content"])}, cell, cell_index)
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError):
            return None

    def _cpu(self) -> float:
        """Seconds of processor time the kernel process has used."""
        try:
            fields = Path(f"/proc/{self.provisioner.pid}/stat").read_text().rsplit(")", 1)[1].split()
            self.cpu_seen = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            pass  # it has ended: what was seen last is the best that is known
        return self.cpu_seen

    def _watch_memory(self, provisioner) -> None:
        """Stop the kernel when all processes of its box together hold more than allowed."""
        allowed = (self.limits.memory_mb + 256) << 20
        roots = [provisioner.pid] + ([provisioner.box.pid] if provisioner.box else [])
        first = provisioner.box.pid if provisioner.box else None
        while provisioner.handle is not None and not self.stopped:
            if memory.holds_more(roots, allowed, first) and not self.overflow:
                self.overflow = f"the notebook used more than {self.limits.memory_mb} MB of memory"
                self._end_kernel()
                return
            time.sleep(0.25)


def _look_again(get_msg, over=None):
    """`get_msg` that looks for a message every quarter of a second, not only when it is woken.

    Where a cell makes a widget, nbclient answers it on the socket on which it waits for the cell's reply. A socket of
    zmq tells of news once, and sending takes that away: the reply is there and nobody looks before the time limit.
    `over()` ends the wait too, as if nothing had come: it knows how long the cell had, which no clock on a wall does.
    """

    async def patient(timeout: float | None = None):
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_SECONDS if end is None else min(LOOK_SECONDS, end - time.monotonic())
            try:
                return await get_msg(timeout=max(0.0, left))
            except Empty:
                if (over is not None and over()) or (end is not None and time.monotonic() >= end):
                    raise

    return patient


def _size(content) -> int:
    if isinstance(content, str):
        return len(content)
    if isinstance(content, dict):
        return 16 + sum(map(_size, content.values()))
    if isinstance(content, list):
        return 16 + sum(map(_size, content))
    return 8


def _writable(content):
    """What a kernel sent, without the halves of surrogate pairs that no file and no database takes."""
    return json.loads(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))


def _error(name: str, message: str) -> NotebookNode:
    return new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])


def _as_stdout(output):
    """A warning or a progress bar is something to read, and nothing to lose points for."""
    if output.output_type == "stream" and output.name == "stderr":
        output.name = "stdout"
    return output


def _error_as_text(output):
    if output.output_type != "error":
        return output
    lines = "\n".join(output.traceback)
    return new_output("stream", name="stdout", text=re.sub(r"\x1b\[[0-9;]*m", "", lines) + "\n")
