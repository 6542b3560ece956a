"""How many bytes of tensors an object holds, directly or through what it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

_OPAQUE = (str, bytes, int, float, type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)


def tensor_bytes(root: Any, *, without: tuple[Any, ...] = ()) -> int:
    """Sum up every storage that ``root`` reaches, each once, leaving out what ``without`` reaches."""
    seen: set[int] = set()
    for left_out in without:
        list(_storages(left_out, seen))
    return sum(size for _, size in _storages(root, seen))


def _storages(root: Any, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Yield (address, bytes) of storages that were not ``seen``."""
    todo, alive = [root], []
    while todo:
        item = todo.pop()
        if isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            if storage.data_ptr() not in seen and storage.nbytes():
                seen.add(storage.data_ptr())
                yield storage.data_ptr(), storage.nbytes()
        elif not isinstance(item, _OPAQUE) and item is not None and id(item) not in seen:
            seen.add(id(item))
            alive.append(item)  # so that no id is used twice
            todo += _members(item)


def _members(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, list | tuple | set | frozenset):
        return list(item)
    slots = [
        getattr(item, name, None) for name in getattr(type(item), "__slots__", ()) if isinstance(name, str)
    ]
    return [*getattr(item, "__dict__", {}).values(), *slots]
