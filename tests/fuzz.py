"""A fuzzer of calls: every public function, class and method with one wrong argument at a time.

    python tests/fuzz.py                    # all modules
    python tests/fuzz.py --module buffers   # one of them

Valid calls are not written down here: they are watched. A lesson's cells run with the exported module in place of its
own definitions, and at the first call of something public the process forks. The child has the real arguments, makes
the call once as it is, then again and again with one argument replaced, and judges each answer:

* helpful: an error that the package itself raises, of a fitting kind, which names the argument
* unnamed: such an error without the argument's name
* bare: an error in the words of Python, NumPy or PyTorch, or of an unfitting kind
* lawful: an answer to a value that the annotation allows
* accepted: an answer to a value that it does not allow, or to NaN
* hang, crash: no answer
"""
from __future__ import annotations

import argparse
import collections
import copy
import ctypes
import dis
import importlib
import inspect
import json
import math
import numbers
import os
import pkgutil
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import nbformat
import numpy as np
import numpy.typing as npt
import torch

import bcq_nb

root = Path(__file__).resolve().parents[1]
ours = str(Path(bcq_nb.__file__).parent)
LIMIT = 2.0          # seconds for a call with a wrong argument
VALID_LIMIT = 5.0    # seconds for the valid one
SILENCE = 30.0       # seconds until a child is given up that sends nothing
LESSON_LIMIT = 60.0  # seconds of a lesson
MOST_CALLS = 6       # valid calls to try, until one can be made again


# What is public, and where it is written

class Entry(typing.NamedTuple):
    "Something public that can be called."
    module: str   # "buffers"
    name: str     # "ReplayBuffer.add"; a class stands for its constructor

    def __str__(self):
        return f"{self.module}.{self.name}"


def written_in(function: Any) -> types.CodeType | None:
    "The code of a function beneath its decorators"
    return getattr(inspect.unwrap(function), "__code__", None)


def constructor(cls: type) -> types.CodeType | None:
    "What runs when an object is made: `__init__`, or `__new__` of a named tuple"
    return written_in(cls.__init__) or written_in(cls.__new__)


def public(modules: list[str]) -> dict[types.CodeType, list[Entry]]:
    "The code of everything public. One code may be the constructor of several classes."
    found = collections.defaultdict(list)
    for module in modules:
        room = importlib.import_module(f"bcq_nb.{module}")
        for name in room.__all__:
            value = getattr(room, name)
            if getattr(value, "__module__", None) != room.__name__ or not callable(value):
                continue   # a constant, or a name for a type
            if not inspect.isclass(value):
                found[written_in(value)].append(Entry(module, name))
                continue
            found[constructor(value)].append(Entry(module, name))
            for method, function in vars(value).items():
                function = getattr(function, "__func__", function)
                if inspect.isroutine(function) and (method[0] != "_" or method == "__call__"):
                    found[written_in(function)].append(Entry(module, f"{name}.{method}"))
    found.pop(None, None)
    return found


def all_modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(bcq_nb.__path__) if module.name[0] != "_"]


# A call that can be made again

class Call(typing.NamedTuple):
    "A public function with the arguments that somebody gave it."
    entry: Entry
    function: Any                  # what a user calls
    arguments: dict[str, Any]      # by name
    hints: dict[str, Any]          # the annotation of each argument

    def copied(self) -> Call:
        "The same with an object and arguments of its own"
        owner = getattr(self.function, "__self__", None)
        if inspect.isclass(owner) or inspect.ismodule(owner):
            owner = None
        other, arguments = copy.deepcopy((owner, self.arguments))
        function = self.function if other is None else getattr(other, self.function.__name__)
        return self._replace(function=function, arguments=arguments)

    def make(self, **changes):
        positional, named = [], {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if name not in self.arguments:
                continue
            value = {**self.arguments, **changes}[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional += value
            elif parameter.kind is parameter.VAR_KEYWORD:
                named.update(value)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                named[name] = value
            else:
                positional.append(value)
        answer = self.function(*positional, **named)
        if inspect.isgenerator(answer):       # runs when it is asked for something
            return next(answer, None)
        if type(answer).__name__ == "_GeneratorContextManager":
            with answer as inner:
                return inner
        return answer


def called(entry: Entry, frame: types.FrameType) -> Call | None:
    "The call that a frame is the beginning of; None where it is a step of another call"
    code, local = frame.f_code, frame.f_locals
    n_named = code.co_argcount + code.co_kwonlyargcount
    names = list(code.co_varnames[:n_named])
    names += code.co_varnames[n_named:n_named + bool(code.co_flags & 4) + bool(code.co_flags & 8)]
    arguments = {name: local[name] for name in names}
    room = importlib.import_module(f"bcq_nb.{entry.module}")
    head, _, method = entry.name.partition(".")
    function = getattr(room, head)
    owner = function if inspect.isclass(function) else None
    if method:
        first = arguments.pop(names[0]) if not isinstance(vars(owner)[method], staticmethod) else owner
        kind = first if inspect.isclass(first) else type(first)
        if not isinstance(vars(owner)[method], staticmethod) and not (isinstance(kind, type) and issubclass(kind, owner)):
            return None
        if written_in(inspect.getattr_static(kind, method, None) and getattr(kind, method)) is not code:
            return None   # called by super() of what overrides it
        function = getattr(first, method)
        written = vars(owner)[method]
        written = inspect.unwrap(getattr(written, "__func__", written))
    elif owner:
        first = arguments.pop(names[0])
        kind = first if inspect.isclass(first) else type(first)
        if kind is not owner:
            return None   # called by the constructor of another class
        written = owner.__init__ if written_in(owner.__init__) else owner.__new__
        written = inspect.unwrap(written)
    else:
        written = inspect.unwrap(function)
    return Call(entry, function, arguments, hints_of(written, room, owner))


def hints_of(written: Any, room: types.ModuleType, owner: type | None) -> dict[str, Any]:
    "What each argument is annotated with; what only type checkers know stays unknown"
    names = {**vars(typing), **vars(collections.abc), **vars(room)}
    found = {}
    hints = dict(getattr(written, "__annotations__", {}))
    if owner is not None and not inspect.isfunction(written) or getattr(written, "__name__", "") in ("__new__", "<lambda>"):
        hints = {key: hint for cls in reversed(owner.__mro__) for key, hint in vars(cls).get("__annotations__", {}).items()}
    for name, hint in hints.items():
        hint = getattr(hint, "__forward_arg__", hint)
        try:
            found[name] = eval(hint, names) if isinstance(hint, str) else hint
        except Exception:
            found[name] = Any
    return found


# What an annotation allows

def fits(value: Any, hint: Any) -> bool | None:
    "Whether an annotation allows a value; None where it does not say"
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar | str) or hint is inspect.Parameter.empty:
        return None
    if hint == npt.ArrayLike:
        return is_numeric(value)
    if hint == npt.DTypeLike:
        return isinstance(value, type | np.dtype | str)
    if origin is typing.Annotated:
        return fits(value, inner[0])
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        answers = [fits(value, one) for one in inner]
        return True if True in answers else None if None in answers else False
    if origin is typing.Literal:
        return value in inner
    if hint in (int, float):
        kinds = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kinds) and not isinstance(value, bool)
    if origin is type:
        return inspect.isclass(value)
    cls = origin or hint
    if cls is collections.abc.Callable:
        return callable(value)
    if not inspect.isclass(cls):
        return None
    if getattr(cls, "_is_protocol", False) or typing.is_typeddict(cls):
        return None
    if not isinstance(value, cls):
        return False
    if cls in (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        if isinstance(value, str) and inner and inner[0] is not str:
            return False
        answers = [fits(one, inner[0]) for one in value] if inner and not isinstance(value, np.ndarray) else []
        return False if False in answers else True
    if cls is tuple and inner:
        wanted = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(wanted) == len(value) and all(fits(*pair) is not False for pair in zip(value, wanted, strict=True))
    return True


def is_numeric(value: Any) -> bool:
    "Whether NumPy makes an array of real numbers of it"
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (ValueError, TypeError):
        return False


# Wrong values

class Thing:
    "An object of a class that nobody knows"
    def __repr__(self):
        return "<Thing>"


THING = Thing()
NAN, INFINITE = float("nan"), float("inf")
ANY_KIND = {"None": None, "text": "text", "object": THING, "dict": {"no such": 1}, "empty list": [], "bytes": b"b"}


def numbers_for(valid: Any) -> dict[str, Any]:
    values = {"nan": NAN, "inf": INFINITE, "-1": -1, "0": 0, "1e12": 10**12, "1e30": 10**30, "list": [valid],
              "array": np.array([1, 2]), "complex": 1j}
    if isinstance(valid, bool):
        return {"2": 2, "nan": NAN, "array": np.array([1, 0])}
    if isinstance(valid, numbers.Integral):
        return {**values, "True": True, "0.5": 0.5, "float": float(valid), "digits": str(valid)}
    return {**values, "1.5": 1.5, "-inf": -INFINITE, "1e308": 1e308, "digits": str(valid)}


def arrays_for(valid: np.ndarray) -> dict[str, Any]:
    values = {"number": 5, "nothing": valid[:0] if valid.ndim else np.zeros(0), "one more axis": valid[None],
              "texts": np.full(valid.shape, "x"), "objects": np.full(valid.shape, None), "scalar": np.array(1),
              "complex": valid + 1j if valid.dtype.kind in "biuf" else 1j, "list": valid.tolist()}
    if valid.ndim:
        values["half as long"] = valid[:len(valid) // 2]
        values["twice as long"] = np.concatenate([valid, valid])
    if valid.ndim > 1:
        values["one axis less"] = valid[0]
        values["other width"] = valid[..., :-1]
    if valid.dtype.kind == "f":
        values |= {"nans": np.full_like(valid, np.nan), "infs": np.full_like(valid, np.inf),
                   "integers": valid.astype(int) if np.isfinite(valid).all() else 5, "negative": -1 - np.abs(valid)}
    elif valid.dtype.kind in "iu":
        values |= {"fractions": valid + 0.5, "-1s": np.full(valid.shape, -1), "bools": valid.astype(bool),
                   "huge": np.full(valid.shape, 2**62)}
    elif valid.dtype.kind == "b":
        values |= {"sevens": np.full(valid.shape, 7), "fractions": np.full(valid.shape, 0.5)}
    return values


def others_for(valid: Any) -> dict[str, Any]:
    "By the kind of what is right"
    if isinstance(valid, str | os.PathLike):
        path = {"folder": tempfile.gettempdir(), "missing": "no/such/file", "nul": "a\0b"}
        return {"empty": "", "number": 5, "nan": NAN, "list": [valid], **path}
    if isinstance(valid, Mapping):
        return {"number": 5, "empty": {}, "unknown key": {**valid, "no such": 1}, "list": [1],
                "numbers": dict.fromkeys(valid, NAN), "Nones": dict.fromkeys(valid, None)}
    if isinstance(valid, tuple) and hasattr(valid, "_fields"):
        return {"number": 5, "tuple": tuple(valid), "short": tuple(valid)[:-1], "Nones": type(valid)(*[None] * len(valid))}
    if isinstance(valid, list | tuple):
        kind = type(valid)
        return {"number": 5, "one None": kind([None]), "one object": kind([THING]), "one nan": kind([NAN]),
                "nested": kind([list(valid)]), "empty": kind(), "one -1": kind([-1]), "one text": kind(["x"])}
    if inspect.isclass(valid):
        return {"number": 5, "class": Thing, "int": int}
    if callable(valid) and not isinstance(valid, torch.nn.Module) and not hasattr(valid, "act"):
        return {"number": 5, "takes nothing": lambda: None, "gives None": lambda *a, **k: None,
                "gives text": lambda *a, **k: "x"}
    if valid is None:
        return {"number": 5, "nan": NAN, "-1": -1, "list": [1], "array": np.zeros(3)}
    return {"number": 5, "nan": NAN, "list": [valid], "class": type(valid), "array": np.zeros(3)}


def wrong_values(valid: Any) -> dict[str, Any]:
    "What might be given in place of a valid argument by mistake, by a short name"
    if isinstance(valid, torch.Tensor):
        array = valid.detach().cpu().numpy()
        special = {key: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
                   else value for key, value in arrays_for(array).items()}
        special["array"] = array
    elif isinstance(valid, np.ndarray):
        special = arrays_for(valid)
    elif isinstance(valid, numbers.Number | np.bool_):
        special = numbers_for(valid)
    else:
        special = others_for(valid)
    values = {**ANY_KIND, **special}
    return {key: value for key, value in values.items() if value is not valid and key != "None" or valid is not None}


# The verdict

class Timeout(BaseException):
    pass


FITTING = (ValueError, TypeError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def raised_by_us(error: BaseException) -> bool:
    "Whether the innermost frame is in the package, at a `raise`"
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if not code.co_filename.startswith(ours):
        return False
    at = [step for step in dis.get_instructions(code) if step.offset == trace.tb_lasti]
    return bool(at) and at[0].opname == "RAISE_VARARGS" and at[0].arg > 0


def names(message: str, argument: str, value: Any) -> bool:
    "Whether a message says which argument is meant: by its name, or a path by itself"
    words = {argument, argument.replace("_", " "), argument.removesuffix("s"), argument + "s"}
    if any(re.search(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])", message) for word in words):
        return True
    return isinstance(value, str | os.PathLike) and len(str(value)) > 3 and Path(value).name in message


def judge_error(error: BaseException, argument: str, value: Any) -> str:
    if not isinstance(error, FITTING) or not raised_by_us(error):
        return "bare"
    return "helpful" if names(str(error), argument, value) else "unnamed"


def judge_answer(value: Any, hint: Any) -> str:
    "Lawful or accepted, by the annotation; unknown where it says nothing"
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isfinite(value):
        return "accepted"
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size and not np.isfinite(value).all():
        return "accepted"
    allowed = fits(value, hint)
    return "unknown" if allowed is None else "lawful" if allowed else "accepted"


def try_call(call: Call, limit: float, **changes) -> tuple[str, Any]:
    "(\"answer\", it), (\"error\", it) or (\"hang\", None)"
    def stop(*_):
        raise Timeout

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit, 0.5)   # of the processor; again, where the first was swallowed
    try:
        return "answer", call.make(**changes)
    except Timeout:
        return "hang", None
    except BaseException as error:
        return "error", error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


# The forks

def shown(value: Any) -> str:
    try:
        return re.sub(r"\s+", " ", repr(value))[:100]
    except Exception:
        return f"<{type(value).__name__}>"


def plan_of(call: Call) -> list[tuple[str, str, Any]]:
    "(argument, what is wrong, the value), one by one"
    plan = []
    for argument, valid in call.arguments.items():
        kind = inspect.signature(call.function).parameters[argument].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        plan += [(argument, label, value) for label, value in wrong_values(valid).items()]
    return plan


def quiet() -> None:
    "In a child: nothing printed, no orphan, no more memory than fits, no huge file"
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)   # PR_SET_PDEATHSIG
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    room = resource.getrlimit(resource.RLIMIT_AS)[1]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30, room))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 2**20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def in_a_child(work: Callable[[Callable[[Any], None]], None], limit: float) -> Iterator[Any]:
    "What a forked process sends. The last item is its status: 0, or a signal's number, or None after silence"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.close(reader)
        high = os.dup2(writer, 250)
        try:
            quiet()
            work(lambda item: os.write(high, (json.dumps(item) + "\n").encode()))
            os._exit(0)
        except BaseException:
            os.write(high, (json.dumps({"lost": traceback.format_exc()[-2000:]}) + "\n").encode())
            os._exit(7)
    os.close(writer)
    import select
    buffer, status = b"", None
    try:
        while True:
            ready, _, _ = select.select([reader], [], [], limit)
            if not ready:
                break
            data = os.read(reader, 1 << 16)
            if not data:
                status = 0
                break
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            yield from map(json.loads, lines)
    finally:
        os.close(reader)
        if status is None:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(pid, signal.SIGKILL)
        _, code = os.waitpid(pid, 0)
    yield None if status is None else os.waitstatus_to_exitcode(code)


def check_valid(call: Call) -> tuple[str, float]:
    "Whether the call can be made as it is"
    def work(send):
        start = time.process_time()
        kind, what = try_call(call, VALID_LIMIT)
        note = f"{type(what).__name__}: {what}"[:300] if kind == "error" else ""
        send({"kind": kind, "note": note, "seconds": time.process_time() - start})

    items = list(in_a_child(work, SILENCE))
    if not items or not isinstance(items[0], dict):
        return "crash", 0.0
    if "lost" in items[0]:
        return items[0]["lost"], 0.0
    found = items[0]
    return (found["kind"] if not found["note"] else found["note"]), found["seconds"]


def copies_cheaply(call: Call) -> bool:
    "Whether a deep copy costs less than a fork"
    start = time.process_time()
    try:
        call.copied()
    except Exception:
        return False
    return time.process_time() - start < 0.01


def fuzz(call: Call, seconds: float) -> Iterator[dict[str, Any]]:
    "The judged answers to all wrong values. After an answer a fresh child goes on: something may have changed"
    plan = plan_of(call)
    limit = LIMIT + 2 * seconds

    def work_from(start):
        def work(send):
            cheap = copies_cheaply(call)
            for i in range(start, len(plan)):
                argument, label, value = plan[i]
                send({"at": i})
                kind, what = try_call(call.copied() if cheap else call, limit, **{argument: value})
                if kind == "error":
                    verdict, words = judge_error(what, argument, value), f"{type(what).__name__}: {what}"[:300]
                    where = traceback.extract_tb(what.__traceback__)
                    place = f"{Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
                elif kind == "hang":
                    verdict, words, place = "hang", "", ""
                else:
                    verdict, words, place = judge_answer(value, call.hints.get(argument, Any)), shown(what), ""
                send({"entry": str(call.entry), "argument": argument, "wrong": label, "value": shown(value),
                      "verdict": verdict, "words": words, "place": place,
                      "hint": shown(call.hints.get(argument, "?")), "valid": shown(call.arguments[argument])})
                if kind == "hang" or kind == "answer" and not cheap:
                    return
        return work

    start = 0
    while start < len(plan):
        at = start
        for item in in_a_child(work_from(start), SILENCE):
            if isinstance(item, dict) and "at" in item:
                at = item["at"]
            elif isinstance(item, dict) and "entry" in item:
                yield item
                start = at + 1
            elif item != 0 and start == at:   # it died, or was silent
                argument, label, value = plan[at]
                words = item["lost"] if isinstance(item, dict) else f"status {item}"
                yield {"entry": str(call.entry), "argument": argument, "wrong": label, "value": shown(value),
                       "verdict": "hang" if item is None else "crash", "words": words, "place": "",
                       "hint": shown(call.hints.get(argument, "?")), "valid": shown(call.arguments[argument])}
                start = at + 1


# Calls that are kept for the next time

KEPT = Path("/tmp/fuzz/calls")


def keep(call: Call) -> None:
    "Where it can be written down, with what the lesson defined"
    KEPT.mkdir(parents=True, exist_ok=True)
    try:
        owner = getattr(call.function, "__self__", None)
        data = cloudpickle.dumps((call.entry, owner, call.arguments))
    except Exception as error:
        print(f"  {call.entry} cannot be kept: {error!r}"[:200])
        return
    if len(data) < 20_000_000:
        (KEPT / f"{call.entry}.pkl").write_bytes(data)


def kept(path: Path) -> Call:
    entry, owner, arguments = cloudpickle.loads(path.read_bytes())
    entry = Entry(*entry)
    room = importlib.import_module(f"bcq_nb.{entry.module}")
    head, _, method = entry.name.partition(".")
    top = getattr(room, head)
    cls = top if inspect.isclass(top) else None
    function = getattr(owner, method) if method else top
    if method:
        written = vars(cls)[method]
        written = inspect.unwrap(getattr(written, "__func__", written))
    elif cls:
        written = inspect.unwrap(cls.__init__ if written_in(cls.__init__) else cls.__new__)
    else:
        written = inspect.unwrap(function)
    return Call(entry, function, arguments, hints_of(written, room, cls))


# Lessons

class Watch:
    "Looks at every call of a running lesson, and fuzzes each public entry once."
    def __init__(self, wanted: set[Entry], found: dict[types.CodeType, list[Entry]], out: Path):
        self.wanted, self.found, self.out = set(wanted), found, out
        self.tries: collections.Counter[Entry] = collections.Counter()
        self.notes: dict[Entry, str] = {}

    def __call__(self, frame, event, _):
        if event != "call" or frame.f_code not in self.found:
            return
        if time.process_time() > LESSON_LIMIT:
            raise Finished
        for entry in self.found[frame.f_code]:
            if entry not in self.wanted or self.tries[entry] >= MOST_CALLS:
                continue
            try:
                call = called(entry, frame)
            except Exception as error:
                self.notes[entry] = f"not understood: {error!r}"
                continue
            if call is not None:
                sys.setprofile(None)
                self.take(call)
                sys.setprofile(self)

    def take(self, call: Call):
        entry = call.entry
        self.tries[entry] += 1
        kind, seconds = check_valid(call)
        self.notes[entry] = kind
        if kind == "hang":
            self.tries[entry] += 2
        if kind != "answer" or (seconds > 0.3 and self.tries[entry] < MOST_CALLS):
            return   # another call may be quicker
        self.wanted.remove(entry)
        keep(call)
        with self.out.open("a") as file:
            for item in fuzz(call, seconds):
                file.write(json.dumps(item) + "\n")
            file.write(json.dumps({"entry": str(entry), "verdict": "done", "arguments": len(call.arguments)}) + "\n")
        if not self.wanted:
            raise Finished


class Finished(BaseException):
    pass


def module_of(path: Path) -> str | None:
    named = re.search(r"#\| default_exp (\w+)", path.read_text(encoding="utf-8"))
    return named[1] if named else None


def cells_of(path: Path) -> Iterator[str]:
    "What a lesson runs beside its own module: cells that do not export, without magic"
    for cell in nbformat.read(path, as_version=4).cells:
        flags = re.findall(r"^#\|\s*(\S+)", cell.source, re.M)
        skip = {"export", "exports", "slow", "gpu", "eval:", "default_exp"} & set(flags)
        if cell.cell_type == "code" and not skip and "google.colab" not in cell.source:
            yield re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.M)


def run_lesson(path: Path, watch: Callable) -> None:
    module = module_of(path)
    room = vars(importlib.import_module(f"bcq_nb.{module}")) if module else {}
    space = {**room, "__name__": "__main__"}
    for i, source in enumerate(cells_of(path)):
        code = compile(source, f"{path.stem}[{i}]", "exec")
        sys.setprofile(watch)
        try:
            exec(code, space)
        except Finished:
            return
        except Exception as error:
            print(f"  {path.stem}, cell {i}: {type(error).__name__}: {str(error)[:200]}", flush=True)
        finally:
            sys.setprofile(None)


def run_process(path: Path, modules: list[str], wanted: list[str], out: Path, fresh: bool, no_lessons: bool) -> None:
    "One lesson, or one file of tests, in this process and an empty folder"
    os.environ["MPLBACKEND"] = "Agg"
    torch.set_num_threads(1)
    import warnings
    warnings.simplefilter("ignore")
    found = public(modules)
    entries = {entry for several in found.values() for entry in several}
    watch = Watch({entry for entry in entries if not wanted or str(entry) in wanted}, found, out)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tempfile.tempdir = folder
        for entry in sorted(watch.wanted) if not fresh else []:
            path_kept = KEPT / f"{entry}.pkl"
            if path_kept.exists():
                try:
                    watch.take(kept(path_kept))
                except Finished:
                    return
                except Exception as error:
                    watch.notes[entry] = f"kept, but {error!r}"[:200]
        if no_lessons:
            path = Path("none.txt")
        if path.suffix == ".ipynb":
            run_lesson(path, watch)
        elif path.suffix == ".py":
            import pytest

            class Plugin:
                @pytest.hookimpl(hookwrapper=True)
                def pytest_runtest_call(self):
                    sys.setprofile(watch)
                    yield
                    sys.setprofile(None)

            try:
                pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--no-header", str(path)], plugins=[Plugin()])
            except Finished:
                pass
        os.chdir("/")
    with out.open("a") as file:
        for entry in sorted(watch.wanted):
            note = watch.notes.get(entry, "never called")
            file.write(json.dumps({"entry": str(entry), "verdict": "missing", "words": note, "from": path.stem}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", action="append", help="only these; all without it")
    parser.add_argument("--out", type=Path, default=Path("/tmp/fuzz/raw"))
    parser.add_argument("--from", dest="source", type=Path, help="watch this notebook or file of tests")
    parser.add_argument("--wanted", default="")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a lesson")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="not the calls that were kept")
    parser.add_argument("--no-lessons", action="store_true", help="only the calls that were kept")
    options = parser.parse_args()
    modules = options.module or all_modules()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.child:
        wanted = [name for name in options.wanted.split(",") if name]
        run_process(options.source.resolve(), modules, wanted, options.out / f"{modules[0]}.jsonl", options.fresh, options.no_lessons)
        return
    lessons = {module_of(path): path for path in sorted(root.glob("nbs/[0-9]*.ipynb"))}

    def one(module):
        out = options.out / f"{module}.jsonl"
        out.unlink(missing_ok=True)
        source = options.source or lessons[module]
        start = time.perf_counter()
        command = [sys.executable, __file__, "--child", "--module", module, "--out", options.out, "--from", source, *(["--fresh"] * options.fresh), *(["--no-lessons"] * options.no_lessons)]
        with (options.out / f"{module}.log").open("w") as log:
            try:
                subprocess.run(command, timeout=options.limit, cwd=root, stdout=log, stderr=log)
            except subprocess.TimeoutExpired:
                print(f"  {source.stem}: stopped after {options.limit:.0f} s")
        print(f"{module}: {time.perf_counter() - start:.0f} s", flush=True)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(one, modules))


if __name__ == "__main__":
    main()
