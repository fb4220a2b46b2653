"""Numpy's scalars and arrays as pickles describe them, numbers and text only: objects could be anything."""

from __future__ import annotations

from typing import Any

import numpy as np


class NumpyType:
    """A numpy dtype in the making: a pickle tells its byte order after it may already have been referred to."""

    def __init__(self, text: Any, *_: Any) -> None:
        self.text = text.decode("ascii") if isinstance(text, bytes) else str(text)
        self.order = "|"

    def dtype(self) -> np.dtype[Any]:
        """Return the dtype."""
        made: np.dtype[Any] = np.dtype(self.text).newbyteorder(self.order)  # type: ignore[arg-type]
        if made.kind not in "biufcSU":
            raise TypeError(f"numpy values of type {self.text}")
        return made


def scalar(kind: NumpyType, data: Any = b"") -> Any:
    """Return the Python value of a numpy scalar."""
    (value,) = np.frombuffer(raw(data), dtype=kind.dtype())
    return value.item()


def empty_array(*_: Any) -> np.ndarray[Any, Any]:
    """Return the array that `fill_array` makes something of."""
    return np.zeros(0)


def fill_array(array: np.ndarray[Any, Any], state: Any) -> None:
    """Give an array its shape, type and values in place, so that all who refer to it have them."""
    shape, kind, in_fortran_order, data = state[-4:]
    values: tuple[Any, ...] = (1, _shape(shape), kind.dtype(), bool(in_fortran_order), raw(data))
    array.__setstate__(values)


def array_over(data: Any, kind: NumpyType, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """Return an array as protocol 5 describes it."""
    array: np.ndarray[Any, Any] = np.frombuffer(raw(bytes(data)), dtype=kind.dtype())
    shaped: np.ndarray[Any, Any] = array.reshape(_shape(shape), order="F" if order == "F" else "C")
    return np.array(shaped)


def raw(text: Any, encoding: str = "latin1") -> bytes:
    """Return bytes, which pickles before protocol 3 hold as text and an encoding."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise TypeError(f"bytes made of {type(text).__name__} and {encoding}")
    return text.encode(encoding)


def _shape(sides: Any) -> tuple[int, ...]:
    return tuple(int(side) for side in sides)
