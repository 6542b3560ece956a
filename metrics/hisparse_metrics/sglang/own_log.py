"""Our own engine's decode log, text and JSON, in the words of a record."""

from __future__ import annotations

from hisparse_metrics import decode_log
from hisparse_metrics.sglang.records import Value


def read_own_body(text: str) -> dict[str, Value] | None:
    """Read the text after ``Decode batch, ``, or return ``None`` when it is not exactly ours."""
    record = decode_log.parse(f"Decode batch, {text}")
    return _values(record) if record and not record.unknown_fields else None


def read_own_json(text: str) -> dict[str, Value] | None:
    """Read a whole JSON line, or return ``None`` when it is not ours."""
    record = decode_log.parse(text) if '"is_hisparse"' in text[:4096] else None
    if record is None or record.timestamp is None:
        return None
    return _values(record) | {"timestamp": record.timestamp}


def _values(record: decode_log.DecodeRecord) -> dict[str, Value]:
    return {
        "phase": "decode",
        "running_requests": record.running_requests,
        "waiting_requests": record.waiting_requests,
        "generation_throughput": record.generation_throughput,
        **_pool(record),
    }


def _pool(record: decode_log.DecodeRecord) -> dict[str, Value]:
    pool = record.pool
    if not pool.is_hisparse:
        return {"tokens": pool.tokens, "token_usage": pool.token_usage}
    return {
        "device_tokens": pool.hisparse_device_tokens,
        "device_token_usage": pool.hisparse_device_token_usage,
        "host_tokens": pool.hisparse_host_tokens,
        "host_token_usage": pool.hisparse_host_token_usage,
    }
