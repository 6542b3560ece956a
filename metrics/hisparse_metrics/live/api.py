"""``/api/v1/history``: answers that are made once a sample, however many pages ask."""

from __future__ import annotations

import gzip
import json
from http import HTTPStatus
from threading import Lock

from prometheus_client.exposition import gzip_accepted

from hisparse_metrics.live.answer import events_json, rows_json, table_json
from hisparse_metrics.live.history import ALL
from hisparse_metrics.live.query import Cursor, Query, QueryError
from hisparse_metrics.live.sampler import Latest, Sampler
from hisparse_metrics.web.messages import Request, Response, text_response

PATH = "/api/v1/history"
_JSON = "application/json"
_GZIP_LEVEL = 1
_MAX_CACHED = 32


class HistoryApi:
    """Answers queries about ``sampler``'s history. ``page`` names the version of the page that understands them."""

    def __init__(self, sampler: Sampler, page: str) -> None:
        self._sampler = sampler
        self._page = page
        self._lock = Lock()
        self._number = -1
        self._table = ""
        self._cached: dict[tuple[str, bool], bytes] = {}

    def respond(self, request: Request) -> Response:
        """Answer with JSON; 400 with a sentence for a query that cannot be, 404 for a rank that is not there."""
        try:
            query = Query.parse(request.query)
        except QueryError as error:
            return text_response(HTTPStatus.BAD_REQUEST, str(error), Cache_Control="no-store")
        latest = self._sampler.latest
        if query.rank != ALL and all(rank.reading.id != query.rank for rank in latest.ranks):
            text = f"rank {query.rank} is not here any more: ask for 'all', or an id from the answer's ranks"
            return text_response(HTTPStatus.NOT_FOUND, text, Cache_Control="no-store")
        self._sampler.looked()
        packed = gzip_accepted(request.accept_encoding)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if packed else {}
        return Response(HTTPStatus.OK, _JSON, self._body(request.query, query, latest, packed), headers)

    def _body(self, text: str, query: Query, latest: Latest, packed: bool) -> bytes:
        """Return the answer of this sample; whoever asks the same before the next sample gets the same bytes."""
        with self._lock:
            if self._number != latest.number:
                self._number, self._cached = latest.number, {}
                self._table = table_json(latest, self._sampler.history)
            body = self._cached.get((text, packed))
            if body is None:
                body = self._make(query, latest)
                body = gzip.compress(body, _GZIP_LEVEL, mtime=0) if packed else body
                if len(self._cached) < _MAX_CACHED:
                    self._cached[text, packed] = body
            return body

    def _make(self, query: Query, latest: Latest) -> bytes:
        history, window = self._sampler.history, query.window
        since = query.since
        if since is not None and (since.epoch, since.of) != (latest.epoch, query.subject):
            since = None
        after = latest.time - window.seconds
        rows = history.read(query.rank, window.tier, after, since.row if since else None)
        goes_on = since is not None and rows.first >= since.row
        events = history.events(since.event if since and goes_on else 0, after)
        head = {
            "time": round(latest.time + latest.offset, 3),
            "page": self._page,
            "window": window.name,
            "seconds": window.seconds,
            "resolution": window.tier.seconds,
            "rank": query.rank,
            "recorded": history.is_recorded(query.rank),
            "complete": not goes_on,
            "first": rows.first,
            "cursor": str(Cursor(latest.epoch, query.subject, rows.closed, history.num_events)),
        }
        return (
            f'{json.dumps(head)[:-1]},"rows":{rows_json(rows, latest.offset)},'
            f'"events":{events_json(events, latest.offset)},{self._table}}}\n'
        ).encode()
