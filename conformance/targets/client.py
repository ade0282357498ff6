"""Asking a target that runs in a child process, and checking what comes back: crashes, hangs and wrong shapes become TargetErrors."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from lpref.conformance.targets.base import (
    TARGET_ERRORS,
    Case,
    CastCase,
    QuantizeCase,
    TargetAnswer,
    TargetCrashed,
    TargetMissing,
    TargetTimeout,
    Undescribed,
)
from lpref.conformance.targets.frames import HEADER, Frame, body_length, pack, unpack

START_SECONDS = 400.0
"""A target may import large packages, or compile: its first answer may take this long."""


class Session:
    """A target's process: started when first asked, ended on a time-out, started again for the next case.

    Use as a context manager. `printed` collects what the target printed to standard output since it was last read.
    """

    def __init__(self, spec: str, *, array: str = "numpy", device: str = "cpu", timeout: float = 60.0) -> None:
        self.spec, self.timeout = spec, timeout
        own = [sys.executable, "-m", "lpref.conformance.targets.worker", spec, "--array", array, "--device", device]
        self.command = shlex.split(spec.removeprefix("exec:")) if spec.startswith("exec:") else own
        self.process: subprocess.Popen[bytes] | None = None
        self.errors: IO[bytes] | None = None
        self.number = 0
        self.printed: list[str] = []
        self.seconds, self.elements = 0.0, 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
            self.process = None
        if self.errors is not None:
            self.errors.close()
            self.errors = None

    def start(self) -> subprocess.Popen[bytes]:
        """The process, started unless it runs; greeted, so that loading time is not counted against a case."""
        if self.process is not None:
            return self.process
        self.errors = tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0, env=environment(),
            )  # fmt: skip
        except OSError as error:
            raise TargetMissing(str(error), where=self.spec) from error
        self.exchange(Frame("hello"), max(START_SECONDS, self.timeout))
        return self.process

    def ask(self, case: Case, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The target's arrays for a case, checked.

        Raises: a TargetError.
        """
        self.start()
        began = time.perf_counter()
        answer = self.exchange(Frame(case.op, 0, case.fields(), arrays), self.timeout)
        self.seconds += time.perf_counter() - began
        self.elements += sum(a.size for a in arrays.values())
        return checked(case, arrays, answer.arrays, self.spec)

    def exchange(self, question: Frame, seconds: float) -> Frame:
        """One question, one answer."""
        self.number += 1
        try:
            answer = self.transfer(pack(Frame(question.op, self.number, question.text, question.arrays)), time.monotonic() + seconds)
        except (TargetTimeout, TargetCrashed, TargetAnswer):
            self.close()  # whatever still comes belongs to no question
            raise
        if answer.text.get("printed"):
            self.printed.append(f"{answer.text['printed']} bytes on standard output: {answer.text.get('printed_head', '')!r}")
        if answer.op == "error":
            error = TARGET_ERRORS.get(answer.text.get("kind", ""), TARGET_ERRORS["raised"])
            message = answer.text.get("message", "an error without a message")
            raise error(message.removeprefix(f"{self.spec}: "), where=self.spec)
        if answer.number != self.number or answer.op != question.op:
            self.close()
            raise TargetAnswer(f"an answer to {answer.op} {answer.number}, asked was {question.op} {self.number}", where=self.spec)
        return answer

    def transfer(self, data: bytes, deadline: float) -> Frame:
        """Write and read at once (a target may answer before it has read everything), until the deadline."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        out, into = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(out, False)
        header, body, wanted = bytearray(), bytearray(), HEADER.size
        pending = memoryview(data)
        with selectors.DefaultSelector() as waiting:
            waiting.register(into, selectors.EVENT_READ)
            waiting.register(out, selectors.EVENT_WRITE)
            while len(header) < HEADER.size or len(body) < wanted:
                ready = waiting.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise TargetTimeout("no answer in time; its process was ended", where=self.spec, remedy="allow more with --timeout SECONDS")
                for key, _ in ready:
                    if key.fd == out:
                        try:
                            pending = pending[os.write(out, pending[: 1 << 16]) :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            pending = pending[:0]  # it may have answered all the same; the end of its output tells
                        if not pending:
                            waiting.unregister(out)
                        continue
                    need = HEADER.size - len(header) or wanted - len(body)
                    part = os.read(into, min(need, 1 << 20))
                    if not part:
                        self.crashed(bytes(header))
                    (header if len(header) < HEADER.size else body).extend(part)
                    if len(header) == HEADER.size and not body:
                        wanted = body_length(bytes(header))
        return unpack(bytes(header), bytes(body))

    def crashed(self, header: bytes) -> None:
        """Raise TargetCrashed with how the process ended and its last words."""
        assert self.process is not None
        assert self.errors is not None
        try:
            code = self.process.wait(5)
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            how = "its output was closed"
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - 2000))
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        said = f"; it said: {lines[-1].strip()}" if lines else ""
        wrote = f"; it wrote {header!r}" if header else ""
        raise TargetCrashed(f"its process ended: {how}{wrote}{said}", where=self.spec)


def environment() -> dict[str, str]:
    """This process's environment; the child finds lpref where it was found here, and uses one thread."""
    import lpref

    root = os.path.dirname(os.path.dirname(os.path.abspath(lpref.__file__)))
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH", "")])]
    threads = {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def checked(case: Case, asked: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """`got` where it answers the case.

    Raises: TargetAnswer naming the array, what it is and what it should be.
    """
    if isinstance(case, CastCase):
        check_cast(asked["x"], got, where)
    elif isinstance(case, QuantizeCase):
        check_quantize(asked["x"], got, where)
    elif case.op == "gemm":
        expect(got, "c", (asked["a"].shape[0], asked["b"].shape[0]), "f", where)
    elif case.op == "attention":
        expect(got, "o", asked["q"].shape, "f", where)
    else:
        for name, array in asked.items():
            if name.startswith("params."):
                expect(got, name, array.shape, "f", where)
    return dict(got)


def check_cast(x: np.ndarray, got: Mapping[str, np.ndarray], where: str) -> None:
    """Codes or values of x's shape."""
    name = "codes" if "codes" in got else "values"
    expect(got, name, x.shape, "u" if name == "codes" else "f", where)


def check_quantize(x: np.ndarray, got: Mapping[str, np.ndarray], where: str) -> None:
    """Values of x's shape; or codes, and scales that are codes or values."""
    if "codes" not in got:
        expect(got, "values", x.shape, "f", where)
        return
    if got["codes"].dtype.kind != "u":
        raise TargetAnswer(f"codes are {got['codes'].dtype}, not unsigned integers", where=where, remedy="view them as unsigned")
    if "scales" in got and got["scales"].dtype.kind not in "uf":
        raise TargetAnswer(f"scales are {got['scales'].dtype}, neither codes (unsigned) nor values (floating)", where=where)
    if "tensor_scale" in got and (got["tensor_scale"].size != 1 or got["tensor_scale"].dtype.kind != "f"):
        raise TargetAnswer(f"tensor_scale is {got['tensor_scale'].dtype}{list(got['tensor_scale'].shape)}, not one float", where=where)


def expect(got: Mapping[str, Any], name: str, shape: tuple[int, ...], kind: str, where: str) -> None:
    """One array of a shape and kind (u unsigned, f floating)."""
    if name not in got:
        raise TargetAnswer(f"no array {name!r}; it returned {', '.join(got) or 'none'}", where=where)
    array = got[name]
    if array.dtype.kind != kind and not (kind == "f" and array.dtype.name == "bfloat16"):
        wanted = "unsigned integers" if kind == "u" else "floating point"
        raise TargetAnswer(f"{name} are {array.dtype}, not {wanted}", where=where, remedy="view codes as unsigned, or return floats")
    if array.shape != shape:
        raise TargetAnswer(f"{name} have shape {list(array.shape)}, not {list(shape)}", where=where)


class Remote(Undescribed):
    """A session as a `Target`, for what asks targets in their own terms (`identify`, `prove`)."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.spec)
        self.session = session

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        got = self.session.ask(case, {"x": x} if words is None else {"x": x, "words": words})
        return got["codes"] if "codes" in got else got["values"]

    def quantize(
        self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None
    ) -> Mapping[str, Any] | np.ndarray:
        given = {"x": x, "amax": amax, "words": words}
        got = self.session.ask(case, {k: v for k, v in given.items() if v is not None})
        return got if "codes" in got else got["values"]
