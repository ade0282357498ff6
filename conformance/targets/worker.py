"""The child process of a Python or C target: loads it, answers frames; whatever it prints goes aside and is reported.

Run as ``python -m lpref.conformance.targets.worker TARGET [--array LIBRARY] [--device DEVICE]``.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
import traceback
from typing import BinaryIO

import numpy as np

from lpref.conformance.targets import resolve
from lpref.conformance.targets.base import Target, TargetError, case_from
from lpref.conformance.targets.frames import Frame, pack, read
from lpref.conformance.targets.module import answer


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--array", default="numpy")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    questions, answers, printed = aside()
    try:
        target: Target | None = resolve(args.target, args.array, args.device)
        failed = target.available if target is not None else None
        problem: Frame | None = Frame("error", 0, {"kind": "missing", "message": failed}) if failed else None
    except BaseException as error:  # foreign code ran: whatever it raised is an answer
        problem, target = as_frame(error), None
    while (question := read(questions)) is not None and question.op != "bye":
        frame = problem or reply(target, question)
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)
        text = {**frame.text, **taken(printed)}
        answers.write(packed(Frame(frame.op, question.number, text, frame.arrays)))
        answers.flush()


def aside() -> tuple[BinaryIO, BinaryIO, BinaryIO]:
    """(questions, answers, file that standard output goes to from now on)."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    printed = tempfile.TemporaryFile()
    os.dup2(printed.fileno(), 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return questions, answers, printed


def taken(printed: BinaryIO) -> dict[str, str]:
    """What was printed since the last call, its beginning."""
    size = printed.seek(0, os.SEEK_END)
    printed.seek(0)
    head = printed.read(80)
    printed.seek(0)
    printed.truncate()
    return {"printed": str(size), "printed_head": head.decode(errors="replace").strip()} if size else {}


def reply(target: Target | None, question: Frame) -> Frame:
    """The answer to one question; anything raised becomes an error frame."""
    assert target is not None
    try:
        if question.op == "hello":
            target.prepare()
            return Frame("hello", 0, {"name": target.name, "version": target.version})
        case = case_from(question.op, question.text)
        refusal = target.refuses(case)
        if refusal:
            return Frame("error", 0, {"kind": "refused", "message": refusal})
        with np.errstate(all="ignore"):  # a target's floating-point warnings are its own business
            return Frame(question.op, 0, {}, answer(target, case, {k: v.copy() for k, v in question.arrays.items()}))
    except BaseException as error:  # foreign code ran: SystemExit and what is no Exception are answers too
        return as_frame(error)


def as_frame(error: BaseException) -> Frame:
    """An error frame; the traceback goes to standard error."""
    if isinstance(error, TargetError):
        return Frame("error", 0, {"kind": error.kind, "message": str(error)})
    traceback.print_exception(error)
    return Frame("error", 0, {"kind": "raised", "message": f"{type(error).__name__}: {error}"})


def packed(frame: Frame) -> bytes:
    """`pack`; an array that no frame carries becomes an error frame."""
    try:
        return pack(frame)
    except TargetError as error:
        return pack(Frame("error", frame.number, {"kind": error.kind, "message": str(error)}))


if __name__ == "__main__":
    main()
