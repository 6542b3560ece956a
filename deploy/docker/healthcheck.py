"""Whether the process in this container answers; exit code 0 or 1. Runs with nothing but Python.

``HISPARSE_HEALTH_URL`` is where to ask. Any answer below 500 will do: a server that wants a password is alive. A
certificate is not checked, because it is made out to the name that clients use, not to this container's loopback.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request

DEFAULT_URL = "http://127.0.0.1:9477/-/healthy"
TIMEOUT_SECONDS = 3.0


def problem(url: str) -> str:
    """Return what is wrong, or nothing."""
    insecure = ssl._create_unverified_context()  # noqa: S323 - see above
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS, context=insecure).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}" if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        return f"{url} does not answer: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(problem(os.environ.get("HISPARSE_HEALTH_URL") or DEFAULT_URL) or 0)
