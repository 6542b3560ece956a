"""How alerts name a rank and say a number: Go templates that Prometheus fills in."""

from __future__ import annotations

WHO = (
    "{{ $labels.instance }} {{ $labels.engine_name }} "
    "(dp {{ $labels.dp_rank }}{{ with $labels.tp_rank }}, tp {{ . }}{{ end }})"
)
"""One rank; vLLM's series are sums over its tensor-parallel ranks."""
PERCENT = "{{ $value | humanizePercentage }}"
DURATION = "{{ $value | humanizeDuration }}"
NUMBER = "{{ $value | humanize }}"
COUNT = '{{ $value | printf "%.0f" }}'
"""A count that Prometheus estimates: an increase over a window is seldom whole."""
SOURCE = "{{ $labels.instance }}: {{ $labels.source }}"
"""One followed log."""
