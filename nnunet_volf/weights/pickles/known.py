"""Everything that a file of weights can have made: types known by their whole name, and our function for each.

What is not in this table becomes a placeholder. Nothing is imported or looked up by a name that stands in a file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from nnunet_volf.weights.pickles import numpy_values
from nnunet_volf.weights.pickles.dangers import RunsCode
from nnunet_volf.weights.pickles.inert import Inert, InertType


@dataclass(frozen=True)
class Known:
    """What makes an object of a known type; to call it is all that a pickle can do with it."""

    make: Callable[..., Any]
    plain: bool = True  # every torch since 2.1 reads it with weights_only=True


@dataclass(frozen=True)
class StorageType:
    """The type of the values in a piece of memory that tensors share."""

    dtype: torch.dtype


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """Return a tensor over a piece of memory, which it must fit into."""
    size = tuple(map(int, size))
    if prod(size) > storage.numel():  # torch allows it where values are used more than once
        raise ValueError(f"a tensor of shape {size} in {storage.numel()} values")
    return torch.as_strided(storage, size, tuple(map(int, stride)), int(offset))


def _tensor_of_type(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: torch.dtype, *_: Any
) -> Tensor:
    return _tensor(storage.view(dtype), offset, size, stride)


def _plain_tensor(rebuild: Known, _subclass: Any, arguments: Any, *_: Any) -> Any:
    """Return the tensor that a subclass, such as MONAI's MetaTensor, is made around."""
    return rebuild.make(*arguments)


def _first(value: Any, *_: Any) -> Any:
    return value


def _size(sides: Any = ()) -> torch.Size:
    return torch.Size([int(side) for side in sides])


def _device(kind: Any, index: Any = None) -> str:
    return str(kind) if index is None else f"{kind}:{index}"


def _dictionary(items: Any = ()) -> dict[Any, Any]:
    return dict(items)


def _ordered(items: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict(_dictionary(items))


def _without_factory(_factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    return _dictionary(items)


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(float(real), float(imaginary))


def _byte_array(text: Any = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(numpy_values.raw(text, encoding))


def _path(*parts: Any) -> str:
    return "/".join(str(part).rstrip("/") for part in parts)


def _of_protocol_1(kind: Any, *_: Any) -> Inert:
    """Return what pickles of Python 2 make of any class."""
    return Inert(kind if isinstance(kind, InertType) else InertType("builtins.object"))


def _member(kind: Any, name: Any) -> InertType:
    """Return a placeholder for a class within a class, or for a member of an enumeration as Python 3.11 wrote them."""
    if not isinstance(kind, InertType) or not isinstance(name, str):
        raise RunsCode("builtins.getattr")
    return InertType(f"{kind.name}.{name}")


def _names(modules: Iterable[str], made: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    return {(module, name): what for module in modules for name, what in made.items()}


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}

KNOWN: dict[tuple[str, str], Any] = {
    **_names(("torch", "torch.cuda"), {name: StorageType(dtype) for name, dtype in _STORAGES.items()}),
    ("torch.storage", "UntypedStorage"): StorageType(torch.uint8),
    **{("torch", name): dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)},
    ("torch._utils", "_rebuild_tensor"): Known(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Known(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Known(_tensor_of_type, plain=False),
    ("torch._utils", "_rebuild_parameter"): Known(_first),
    ("torch._utils", "_rebuild_parameter_with_state"): Known(_first, plain=False),
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): Known(_first, plain=False),
    **_names(("torch._tensor", "torch.tensor"), {"_rebuild_from_type_v2": Known(_plain_tensor, plain=False)}),
    ("torch.nn.parameter", "Parameter"): Known(_first),
    ("torch", "Size"): Known(_size),
    ("torch", "device"): Known(_device, plain=False),  # torch 2.1 refuses it
    ("collections", "OrderedDict"): Known(_ordered),
    ("collections", "defaultdict"): Known(_without_factory, plain=False),
    ("collections", "Counter"): Known(_dictionary, plain=False),
    ("_codecs", "encode"): Known(numpy_values.raw, plain=False),
    ("builtins", "getattr"): Known(_member, plain=False),
    ("copyreg", "_reconstructor"): Known(_of_protocol_1, plain=False),
    **_names(  # as the factory of a defaultdict, or the type of a setting
        ("builtins",),
        dict.fromkeys(
            ("object", "int", "long", "float", "str", "unicode", "bool", "bytes"), Known(_first, plain=False)
        ),
    ),
    **_names(
        ("builtins",),
        {
            "set": Known(set, plain=False),
            "frozenset": Known(frozenset, plain=False),
            "list": Known(list, plain=False),
            "tuple": Known(tuple, plain=False),
            "dict": Known(_dictionary, plain=False),
            "bytearray": Known(_byte_array, plain=False),
            "complex": Known(_complex, plain=False),
        },
    ),
    **_names(
        ("pathlib", "pathlib._local"),
        dict.fromkeys(
            ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"),
            Known(_path, plain=False),
        ),
    ),
    ("numpy", "dtype"): Known(numpy_values.NumpyType, plain=False),
    ("numpy", "ndarray"): Known(numpy_values.empty_array, plain=False),
    **_names(
        ("numpy.core.multiarray", "numpy._core.multiarray"),
        {
            "scalar": Known(numpy_values.scalar, plain=False),
            "_reconstruct": Known(numpy_values.empty_array, plain=False),
        },
    ),
    **_names(
        ("numpy.core.numeric", "numpy._core.numeric"), {"_frombuffer": Known(numpy_values.array_over, plain=False)}
    ),
}
