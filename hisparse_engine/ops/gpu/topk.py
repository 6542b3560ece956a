"""The top-k of scores on a CUDA device: ``topk.cu``, or the reference's tensor operations where it cannot be built."""

from __future__ import annotations

import ctypes
import logging
from ctypes import c_int, c_longlong, c_void_p
from functools import cache

import torch

from hisparse_engine.ops.gpu.build import KernelBuildError, load
from hisparse_engine.ops.reference.select import take_best as reference_take_best

MAX_BLOCKS = 16
"""Of a cluster, and so of a row."""
SCORES_A_BLOCK = 8192
"""What a row's number of blocks is chosen by where there are many rows: several such blocks fit a multiprocessor."""
FEW_SCORES_A_BLOCK = 2048
"""The same for few rows, whose blocks have multiprocessors to themselves."""
MOST_FOR_FEW = 8
"""More blocks than this would spend on meeting each other what they save."""
MOST_SCORES_A_BLOCK = 16384
"""What a block's registers can hold."""

_log = logging.getLogger(__name__)


class _Args(ctypes.Structure):
    _fields_ = [
        ("scores", c_void_p),
        ("lengths", c_void_p),
        ("out", c_void_p),
        ("stride", c_longlong),
        ("k", c_int),
    ]


def take_best(scores: torch.Tensor, lengths: torch.Tensor, out: torch.Tensor) -> None:
    """Write the positions of the ``k`` best of each row of ``scores [T, max_length]`` to ``out`` int32 ``[T, k]``.

    ``lengths`` int32 ``[T]``. Ascending, then NONE; of equal scores the smaller position wins. A row with at most
    ``k`` positions is not read. Nothing is read on the host.
    """
    library = _library(scores.device)
    if library is None or scores.shape[1] > MAX_BLOCKS * MOST_SCORES_A_BLOCK:
        reference_take_best(scores, lengths, out)
        return
    rows, longest = scores.shape
    launch(library, scores, lengths, out, blocks_of_a_row(rows, longest, _processors(scores.device)))


def blocks_of_a_row(rows: int, longest: int, processors: int) -> int:
    """Return the cluster size for rows of up to ``longest`` scores: a power of two."""
    blocks = 1
    while blocks < MAX_BLOCKS:
        few = blocks < MOST_FOR_FEW and 2 * blocks * rows <= processors // 2
        if blocks * (FEW_SCORES_A_BLOCK if few else SCORES_A_BLOCK) >= longest:
            break
        blocks *= 2
    return blocks


def launch(
    library: ctypes.CDLL, scores: torch.Tensor, lengths: torch.Tensor, out: torch.Tensor, blocks: int
) -> None:
    """Do what :func:`take_best` does, with ``blocks`` thread blocks a row."""
    rows, longest = scores.shape
    if rows == 0:
        return
    if scores.stride(1) != 1 or not out.is_contiguous() or not lengths.is_contiguous():
        raise ValueError("scores must have adjacent columns, out and lengths must be contiguous")
    args = _Args(scores.data_ptr(), lengths.data_ptr(), out.data_ptr(), scores.stride(0), out.shape[1])
    error = library.topk_launch(ctypes.byref(args), rows, longest, blocks, _stream(scores.device))
    if error:
        raise RuntimeError(
            f"top-k of {rows} rows of {longest} with {blocks} blocks: {library.topk_error(error).decode()}"
        )


@cache
def _library(device: torch.device) -> ctypes.CDLL | None:
    """Return the kernels, made ready on ``device``; None where they cannot be built, which is logged once."""
    major, minor = torch.cuda.get_device_capability(device)
    if major < 9:
        _log.warning(
            "top-k falls back to tensor operations: compute capability %d.%d has no clusters", major, minor
        )
        return None
    try:
        library = load("topk", f"{major}{minor}a")
    except KernelBuildError as error:
        _log.warning("top-k falls back to tensor operations, which are slower: %s", error)
        return None
    library.topk_error.restype = ctypes.c_char_p
    with torch.cuda.device(device):
        if error_code := library.topk_prepare():
            raise RuntimeError(f"top-k: {library.topk_error(error_code).decode()}")
    return library


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _stream(device: torch.device) -> c_void_p:
    return c_void_p(torch.cuda.current_stream(device).cuda_stream)
