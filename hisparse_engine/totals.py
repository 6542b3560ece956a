"""The engine's cumulative counts, in one place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hisparse_engine.kv import SwapCounters
from hisparse_engine.request import Outcome
from hisparse_engine.scheduler import Scheduler
from hisparse_metrics.stats import Totals


@dataclass
class EngineTotals:
    """What has happened since the engine started, besides what coordinator and scheduler count."""

    decode_steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    invariant_violations: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def snapshot(self, swap: SwapCounters, scheduler: Scheduler) -> Totals:
        """Return all totals as the immutable value that observers get."""
        return Totals(
            decode_steps=self.decode_steps,
            prompt_tokens=self.prompt_tokens,
            generation_tokens=self.generation_tokens,
            prefix_hit_tokens=scheduler.num_prefix_hit_tokens,
            swap_in_lookups=swap.lookups,
            swap_in_hits=swap.hits,
            swap_in_misses=swap.misses,
            evictions=swap.evictions,
            host_to_device_bytes=swap.host_to_device_bytes,
            device_to_host_bytes=swap.device_to_host_bytes,
            retractions=scheduler.num_retractions,
            requests_stop=self.outcomes[Outcome.STOP],
            requests_length=self.outcomes[Outcome.LENGTH],
            requests_aborted=self.outcomes[Outcome.ABORTED],
            requests_rejected=self.outcomes[Outcome.REJECTED],
            requests_failed=self.outcomes[Outcome.FAILED],
            verify_checks=swap.verify_checks,
            verify_mismatches=swap.verify_mismatches,
            invariant_violations=self.invariant_violations,
        )
