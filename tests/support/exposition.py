"""An exposition in a file, served as if it came from a live process: counters advance, and pools fill.

Each scrape, a counter is larger by 1 % of its written value for every second since the start; the gauges named in
``FILLING`` grow by 0.1 % a second. Everything else is served as it is written.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILLING = ("hisparse_host_cache_usage_perc", "hisparse_host_blocks_used", "hisparse_host_blocks_usage")
SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?P<labels>\{.*\})? (?P<value>\S+)$")


def advanced(text: str, seconds: float) -> str:
    """Return the exposition as it is ``seconds`` after the start."""
    counters = set(re.findall(r"^# TYPE (\S+) counter$", text, re.MULTILINE))

    def line(written: str) -> str:
        sample = SAMPLE.match(written)
        if not sample:
            return written
        name, value = sample["name"], float(sample["value"])
        growth = 0.01 if name in counters else 0.001 if name.endswith(FILLING) else 0.0
        return f"{name}{sample['labels'] or ''} {value * (1 + growth * seconds)!r}"

    return "\n".join(map(line, text.splitlines())) + "\n"


@contextmanager
def served(path: Path) -> Iterator[str]:
    """Serve ``path`` under ``/metrics`` of a free port for the length of a ``with`` block; yield the address."""
    text, start = path.read_text(), time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = advanced(text, time.monotonic() - start).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # Prometheus may have been stopped
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name=f"exposition-{path.stem}")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
