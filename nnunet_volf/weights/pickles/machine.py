"""A reader of pickles that can make plain data and the types in a table, and can do nothing else.

Python's own unpickler calls whatever a file names. Here `pickletools`, which only takes pickles apart, yields the
instructions; those that build plain data are carried out below, those that call something reach our table alone, and
all others end the reading.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from nnunet_volf.weights.pickles.dangers import RunsCode, runs_code
from nnunet_volf.weights.pickles.inert import Inert, InertType
from nnunet_volf.weights.pickles.known import KNOWN, Known
from nnunet_volf.weights.pickles.numpy_values import NumpyType, fill_array

_MOST_BITS = 1024  # of a whole number; random states have fewer, and longer ones are slow to show as text


class Machine:
    """Reads one pickle after the other from a file, and notes what it left out."""

    def __init__(self, storage: Callable[[Any], Any]) -> None:
        self.ignored: set[str] = set()
        self.plain = True  # so far every torch since 2.1 would read it with weights_only=True
        self._storage = storage  # returns the memory that a persistent id stands for

    def load(self, file: IO[bytes]) -> Any:
        """Return what the next pickle in a file describes."""
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                break
            if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
                raise ValueError(f"a number of {argument.bit_length()} bits")
            if opcode.name in _CONSTANTS:
                self._stack.append(argument)
            else:
                _ACTIONS[opcode.name](self, argument)
        (result,) = self._stack
        return result

    def _find(self, module: Any, name: Any) -> Any:
        """Return what a name stands for: an entry of the table, or a placeholder."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a name that is no text")
        module = _RENAMED.get(module, module)
        known = KNOWN.get((module, name))
        if known is None:
            shown = "".join(letter if letter.isprintable() else "?" for letter in f"{module}.{name}")
            if runs_code(module, name):
                raise RunsCode(shown)
            self.ignored.add(shown)
            return InertType(shown)
        self.plain &= not isinstance(known, Known) or known.plain
        return known

    def _call(self, what: Any, arguments: Any) -> Any:
        if isinstance(what, InertType):
            return Inert(what)
        if not isinstance(what, Known):
            raise TypeError(f"a call of {type(what).__name__}")
        return what.make(*arguments)

    def _above_mark(self) -> list[Any]:
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def _pop(self, number: int) -> list[Any]:
        if number > len(self._stack) - (self._marks[-1] if self._marks else 0):
            raise IndexError("an empty stack")
        taken = self._stack[-number:]
        del self._stack[-number:]
        return taken

    # What the instructions do, by their names in the documentation of `pickletools`.

    def _nothing(self, _: Any) -> None:
        pass

    def _protocol(self, number: int) -> None:
        self.plain &= number <= 2  # torch's own safe reader knows no later one

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _drop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop(1)

    def _drop_to_mark(self, _: Any) -> None:
        self._above_mark()

    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _list(self, _: Any) -> None:
        self._stack.append(self._above_mark())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._above_mark()))

    def _frozenset(self, _: Any) -> None:
        self._stack.append(frozenset(self._above_mark()))

    def _dict(self, _: Any) -> None:
        items = self._above_mark()
        self._stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, items: list[Any]) -> None:
        container = self._stack[-1]
        if isinstance(container, list):
            container.extend(items)
        elif not isinstance(container, Inert):
            raise TypeError(f"items for {type(container).__name__}")

    def _set_item(self, _: Any) -> None:
        self._update(self._pop(2))

    def _set_items(self, _: Any) -> None:
        self._update(self._above_mark())

    def _update(self, items: list[Any]) -> None:
        container = self._stack[-1]
        entries = container.entries if isinstance(container, Inert) else container
        if not isinstance(entries, dict):
            raise TypeError(f"entries for {type(container).__name__}")
        entries.update(zip(items[::2], items[1::2], strict=True))

    def _add_items(self, _: Any) -> None:
        items, container = self._above_mark(), self._stack[-1]
        if isinstance(container, set):
            container.update(items)
        elif not isinstance(container, Inert):
            raise TypeError(f"items for {type(container).__name__}")

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._find(module, name))

    def _stack_global(self, _: Any) -> None:
        self._stack.append(self._find(*self._pop(2)))

    def _reduce(self, _: Any) -> None:
        self._stack.append(self._call(*self._pop(2)))

    def _new_object(self, _: Any) -> None:
        what, arguments, *_ = self._pop(2)
        self._stack.append(self._call(what, arguments))

    def _new_object_by_name(self, _: Any) -> None:
        what, arguments, _keywords = self._pop(3)
        self._stack.append(self._call(what, arguments))

    def _object(self, _: Any) -> None:
        what, *arguments = self._above_mark()
        self._stack.append(self._call(what, arguments))

    def _instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = self._above_mark()
        self._stack.append(self._call(self._find(module, name), arguments))

    def _build(self, _: Any) -> None:
        """Set an object's state, where that can do nothing; attributes of known types are left out."""
        (state,) = self._pop(1)
        built = self._stack[-1]
        if isinstance(built, Inert):
            built.state = state
        elif isinstance(built, NumpyType):
            built.order = state[1]
        elif isinstance(built, np.ndarray):
            fill_array(built, state)

    def _persistent(self, _: Any) -> None:
        self._stack.append(self._storage(*self._pop(1)))


# Protocol 2 and those before have the names of Python 2.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "cPickle": "pickle", "commands": "subprocess"}

_WITH_THEIR_VALUE = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
"""
_CONSTANTS = frozenset(_WITH_THEIR_VALUE.split())


def _push(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    def push(machine: Machine, _: Any) -> None:
        machine._stack.append(make())

    return push


def _tuple_of(number: int) -> Callable[[Machine, Any], None]:
    def push(machine: Machine, _: Any) -> None:
        machine._stack.append(tuple(machine._pop(number)))

    return push


# Left out: EXT1, EXT2 and EXT4 (a table of names outside the file), PERSID (ids as text), NEXT_BUFFER and
# READONLY_BUFFER (memory outside the pickle).
_ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": Machine._protocol,
    "FRAME": Machine._nothing,
    "NONE": _push(lambda: None),
    "NEWTRUE": _push(lambda: True),
    "NEWFALSE": _push(lambda: False),
    "EMPTY_TUPLE": _push(tuple),
    "EMPTY_LIST": _push(list),
    "EMPTY_DICT": _push(dict),
    "EMPTY_SET": _push(set),
    "MARK": Machine._mark,
    "POP": Machine._drop,
    "POP_MARK": Machine._drop_to_mark,
    "DUP": Machine._duplicate,
    "PUT": Machine._put,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._put,
    "GET": Machine._get,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "LIST": Machine._list,
    "TUPLE": Machine._tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "FROZENSET": Machine._frozenset,
    "DICT": Machine._dict,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "SETITEM": Machine._set_item,
    "SETITEMS": Machine._set_items,
    "ADDITEMS": Machine._add_items,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._new_object,
    "NEWOBJ_EX": Machine._new_object_by_name,
    "OBJ": Machine._object,
    "INST": Machine._instance,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent,
}
