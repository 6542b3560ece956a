"""The front is light: it starts without torch, and every part of it may be imported alone."""

from __future__ import annotations

import subprocess
import sys


def test_the_front_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, hisparse_engine.server.run\n"
        "sys.exit(','.join({'torch', 'numpy', 'transformers'} & sys.modules.keys()) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
