"""Dashboards into a Grafana's folder, by its HTTP API: the folder found or made, each dashboard put in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hisparse_dashboards.grafana_api import Grafana, GrafanaError, RefusedError, UnreachableError

PAGE_SIZE = 1000
EXISTS = frozenset({409, 412})
OF_ONE_DASHBOARD = frozenset({400, 412, 422})
"""Refusals that say nothing about the next dashboard."""
Board = dict[str, Any]


def push(grafana: Grafana, folder: str, boards: Sequence[Board], say: Callable[[str], None]) -> list[str]:
    """Put ``boards`` into ``folder`` and say each step; return why some of them could not be saved."""
    uid = _find_or_make(grafana, folder, say)
    failures = []
    for board in boards:
        try:
            say(_save(grafana, uid, board))
        except RefusedError as error:
            if error.status not in OF_ONE_DASHBOARD:
                raise
            failures.append(_why(board, folder, error))
            say(failures[-1])
    return failures


def _find_or_make(grafana: Grafana, title: str, say: Callable[[str], None]) -> str:
    found = _find(grafana, title)
    if found:
        say(f"folder {title}: found ({found})")
        return found
    try:
        made = str(grafana.create("api/folders", {"title": title})["uid"])
    except (RefusedError, UnreachableError) as error:
        # Somebody else made it meanwhile, or we did and the answer was lost: both can be seen.
        if isinstance(error, RefusedError) and error.status not in EXISTS:
            raise
        found = _find(grafana, title)
        if not found:
            raise
        made = found
    say(f"folder {title}: created ({made})")
    return made


def _find(grafana: Grafana, title: str) -> str | None:
    """Return the identity of the top-level folder with this title."""
    page = 1
    while True:
        folders = grafana.get("api/folders", {"limit": PAGE_SIZE, "page": page})
        if not isinstance(folders, list):
            raise GrafanaError(
                f"{grafana.url} does not list folders as Grafana does; is it a Grafana of version 9 or newer?"
            )
        found = [str(folder["uid"]) for folder in folders if folder.get("title") == title]
        if len(found) > 1:
            raise GrafanaError(
                f"{grafana.url} has {len(found)} folders called {title!r}; choose another with --folder"
            )
        if found or len(folders) < PAGE_SIZE:
            return found[0] if found else None
        page += 1


def _save(grafana: Grafana, folder_uid: str, board: Board) -> str:
    body = {
        "dashboard": {**board, "id": None},
        "folderUid": folder_uid,
        "overwrite": True,
        "message": "hisparse dashboards push",
    }
    saved = grafana.put_in_place("api/dashboards/db", body)
    return f"{board['title']}: saved, version {saved.get('version')}, {grafana.address(str(saved.get('url', '')))}"


def _why(board: Board, folder: str, error: RefusedError) -> str:
    """Say why one dashboard was not saved, and what to do."""
    name = f"{board['title']}: not saved"
    if "provisioned" in error.reason.lower():
        return f"{name}: this Grafana provisions {board['uid']} from a file; change it there, or stop provisioning it"
    advice = {
        "name-exists": f"another dashboard of that title is in folder {folder}; rename or delete it",
        "version-mismatch": "somebody saved it at the same moment; run the push again",
        "plugin-dashboard": "it belongs to a plugin of this Grafana, which alone may change it",
    }.get(error.kind)
    return f"{name}: {advice}" if advice else f"{name}: Grafana answers {error.status} ({error.reason})"
