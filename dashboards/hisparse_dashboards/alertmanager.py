"""The Alertmanager configuration: one failure wakes once.

What a failure brings with it is inhibited while the failure itself is told: the alert that names the cause stays. Ranks
and logs are compared by labels, so the trouble of one never hides that of another. Format: Alertmanager 0.25 and newer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hisparse_dashboards.config import Config
from hisparse_dashboards.rules import HEADER

TARGET = ("job", "instance")
ENGINE = (*TARGET, "engine_name", "dp_rank")
"""All tensor- and pipeline-parallel ranks of one engine: when one dies, the others hang."""
RANK = (*ENGINE, "pp_rank", "tp_rank", "ep_rank")
LOG = (*TARGET, "source")


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While ``cause`` fires, ``effects`` with the same ``equal`` labels are not told. Matchers are Alertmanager's."""

    cause: Sequence[str]
    effects: Sequence[str]
    equal: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as Alertmanager reads it."""
        return {
            "source_matchers": list(self.cause),
            "target_matchers": [_alert(*self.effects), *_not_itself(self.cause)],
            "equal": list(self.equal),
        }


def inhibitions() -> Iterator[Inhibition]:
    """Yield every inhibition, from the causes that bring most with them to those that bring least."""
    exporter_gone = [_alert("EngineDown"), 'engine_name=""']
    yield Inhibition(exporter_gone, OF_ENGINE + OF_LOG, TARGET)
    yield Inhibition([_alert("EngineDown")], ("MetricsAbsent",), ())
    yield Inhibition([_alert("EngineDown")], OF_ENGINE, ENGINE)
    yield Inhibition([_alert("EngineStalled")], (*OF_LOAD, "BackupStalled"), ENGINE)
    yield Inhibition(
        [_alert("HostPoolFull")], ("HostUsageHigh", "HostExhaustionPredicted", "RetractionStorm"), RANK
    )
    yield Inhibition([_alert("IndexPoolFull")], ("DeviceUsageSaturated", "RetractionStorm"), RANK)
    critical = [_alert("HostUsageHigh"), 'severity="critical"']
    yield Inhibition(critical, ("HostUsageHigh", "HostExhaustionPredicted"), RANK)
    yield Inhibition([_alert("SourceUnreadable")], ("SourceStale", "LogFormatUnknown"), LOG)


OF_LOAD = (
    "HostPoolFull", "HostUsageHigh", "HostExhaustionPredicted", "IndexPoolFull", "DeviceUsageSaturated",
    "HotBufferThrashing", "RetractionStorm",
)  # fmt: skip
"""What a full or busy engine shows. A stalled one shows some of it, because nothing ends."""
OF_ENGINE = ("EngineStalled", "BackupStalled", *OF_LOAD)
OF_LOG = ("SourceStale", "SourceUnreadable", "LogFormatUnknown")


def render(config: Config) -> str:
    """Return ``alertmanager.yml``: one receiver, a notification per target, and the inhibitions."""
    receiver = "hisparse"
    document = {
        "route": {
            "receiver": receiver,
            "group_by": [*TARGET],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
            "routes": [
                {"matchers": ['severity="warning"'], "receiver": receiver, "repeat_interval": "24h"},
            ],
        },
        "receivers": [
            {
                "name": receiver,
                "webhook_configs": [{"url": config.webhook_url, "send_resolved": True}],
            }
        ],
        "inhibit_rules": [inhibition.to_dict() for inhibition in inhibitions()],
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False, width=110)


def _alert(*names: str) -> str:
    full = "|".join(f"HiSparse{name}" for name in names)
    return f'alertname="{full}"' if len(names) == 1 else f'alertname=~"{full}"'


def _not_itself(cause: Sequence[str]) -> list[str]:
    """Let the critical form silence the warning form of the same alert, and never itself."""
    return ['severity="warning"'] if 'severity="critical"' in cause else []
