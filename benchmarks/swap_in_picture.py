"""Draws the swap-in benchmark's results: times against misses, beside the peer's recorded ones and the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_OURS, _PEER, _LIMIT = "#1f77b4", "#d62728", "#7f7f7f"


def draw(results: dict[str, Any], png: Path) -> None:
    """Write one panel for each batch size, warm above and production-like below: 656-byte rows, 4096 seats, pages."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = [
        c for c in results["cells"] if (c["row_bytes"], c["buffer"], c["contiguous"]) == (656, 4096, False)
    ]
    batches = sorted({c["batch"] for c in chosen})
    figure, axes = plt.subplots(2, len(batches), figsize=(3 * len(batches), 6), sharex=True, squeeze=False)
    for row, production in enumerate((False, True)):
        for axis, batch in zip(axes[row], batches, strict=True):
            cells = [c for c in chosen if c["batch"] == batch and c["production"] == production]
            _panel(axis, cells)
            axis.set_title(f"batch {batch}, {'production-like' if production else 'warm'}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("misses a request", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("µs", fontsize=8)
    axes[0][0].legend(fontsize=7, frameon=False)
    figure.suptitle(
        f"Swap-in, 656-byte rows, 4096 seats — {results['gpu']}, {results['date'][:10]}", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(png, dpi=120)


def _panel(axis: Any, cells: list[dict[str, Any]]) -> None:
    misses = [c["misses"] for c in cells]
    at = range(len(misses))
    axis.plot(at, [c["us"] for c in cells], "o-", color=_OURS, label="HiSparse", linewidth=1.5)
    peer = [(i, c["peer_us"]) for i, c in enumerate(cells) if c["peer_us"]]
    axis.plot(
        *zip(*peer, strict=True), "s--", color=_PEER, label="SGLang 0.5.23", linewidth=1
    ) if peer else None
    limit = [(i, c["limit_us"]) for i, c in enumerate(cells) if c["limit_us"]]
    axis.plot(*zip(*limit, strict=True), ":", color=_LIMIT, label="scattered rows alone") if limit else None
    axis.set_yscale("log")
    axis.set_xticks(list(at), [str(m) for m in misses], fontsize=7)
    axis.tick_params(axis="y", labelsize=7)
    axis.grid(alpha=0.3, which="both", linewidth=0.4)
