"""What stands between a request and the site: rate limit, password, and the headers that a web config adds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from hisparse_metrics.web.auth import AuthBusyError
from hisparse_metrics.web.messages import Request, Response, text_response
from hisparse_metrics.web.policy import Policy, PolicyFile


class Gate:
    """Answers requests with ``respond`` where the policy of the moment lets it."""

    def __init__(self, respond: Callable[[Request], Response], policy: PolicyFile) -> None:
        self._respond = respond
        self._policy = policy

    def respond(self, request: Request) -> Response:
        """Answer ``request``: 429 above the rate limit, 401 without a right password."""
        policy = self._policy.current()
        response = _refusal(policy, request) or self._respond(request)
        return replace(response, headers={**policy.config.headers, **response.headers})


def _refusal(policy: Policy, request: Request) -> Response | None:
    if policy.bucket and not policy.bucket.take():
        seconds = str(math.ceil(policy.bucket.limit.interval))
        return text_response(HTTPStatus.TOO_MANY_REQUESTS, "too many requests", Retry_After=seconds)
    if policy.auth is None or request.path in policy.config.auth_excluded_paths:
        return None
    try:
        allowed = policy.auth.allows(request.authorization)
    except AuthBusyError:
        text = "too many passwords to check"
        return text_response(HTTPStatus.SERVICE_UNAVAILABLE, text, Retry_After="1")
    if allowed:
        return None
    return text_response(
        HTTPStatus.UNAUTHORIZED, "wrong or no password", WWW_Authenticate='Basic realm="hisparse"'
    )
