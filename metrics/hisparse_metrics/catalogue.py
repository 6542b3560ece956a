"""Every metric once: the source of truth for the stats page, the exposition, the docs and the dashboards.

One constant per metric, so that a misspelt metric is an ``AttributeError``. A new metric is one more constant
here; nothing else has to change for it to be stored, exported and documented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from hisparse_metrics.metric import Kind, Label, Metric, Origin, Unit

# -- labels -----------------------------------------------------------------------------------------------------

ENGINE_LABELS: Final = (
    Label("engine_name", "name of the engine; tells two engines on one host apart"),
    Label("model_name", "model that the engine serves"),
    Label("dp_rank", "data-parallel rank, from 0"),
    Label("pp_rank", "pipeline-parallel rank, from 0"),
    Label("tp_rank", "tensor-parallel rank, from 0"),
    Label("ep_rank", "expert-parallel rank, from 0"),
)
"""Identity of one rank: on every engine series."""

INFO_LABELS: Final = (
    Label("version", "version of the engine"),
    Label("mode", "hierarchical or resident"),
    Label("device", "device that the engine computes on"),
    Label("dtype", "element type of the KV rows"),
)

SOURCE_LABELS: Final = (
    Label("source", "the followed log: its path, unit or `stdin`; for a pattern's own figures, the pattern"),
)
"""Identity of one followed log: on every sidecar series."""

OUTCOME: Final = Label(
    "outcome", "how the request ended", ("stop", "length", "aborted", "rejected", "failed")
)
SKIP_REASON: Final = Label(
    "reason",
    "why the page is not exported",
    ("unreadable", "truncated", "garbage", "layout", "catalogue", "torn", "superseded", "expired"),
)
LINE_OUTCOME: Final = Label("outcome", "what became of the line", ("parsed", "ignored", "malformed"))
ENGINE_STATE: Final = Label(
    "state", "what the log tells of its engine", ("working", "idle", "stalled", "silent", "dead")
)
LOG_POOL: Final = Label(
    "pool",
    "pool that an engine without a split logs; `single` is the only one",
    ("single", "full", "swa", "mamba"),
)

# -- sections, in the order of the reference --------------------------------------------------------------------

SPLIT: Final = "Split"
INDEX_KEYS: Final = "Index keys"
SWAP_IN: Final = "Swap-in"
WORK: Final = "Work"
TRUTH: Final = "Truth"
HEALTH: Final = "Identity and health"
EXPORTER: Final = "Exporter"
SIDECAR: Final = "Sidecar"


def _level(name: str, unit: Unit, section: str, text: str, question: str) -> Metric:
    field = name.removeprefix("hisparse_")
    return Metric(
        name, Kind.GAUGE, unit, section, text, question, field=field, identity=ENGINE_LABELS, is_level=True
    )


def _usage(tier: str, text: str, question: str) -> Metric:
    field = f"{tier}_token_usage"
    return Metric(
        f"hisparse_{field}", Kind.GAUGE, Unit.RATIO, SPLIT, text, question, Origin.PAGE, field,
        ratio_of=(f"{tier}_tokens", f"{tier}_token_capacity"), identity=ENGINE_LABELS, is_level=True,
    )  # fmt: skip


def _counter(
    name: str,
    unit: Unit,
    section: str,
    text: str,
    question: str,
    labels: tuple[Label, ...] = (),
) -> Metric:
    field = name.removeprefix("hisparse_").removesuffix("_total")
    return Metric(
        name, Kind.COUNTER, unit, section, text, question, field=field, labels=labels, identity=ENGINE_LABELS
    )


def _histogram(name: str, section: str, text: str, question: str, buckets: tuple[float, ...]) -> Metric:
    field = name.removeprefix("hisparse_")
    return Metric(
        name, Kind.HISTOGRAM, Unit.SECONDS, section, text, question, field=field, identity=ENGINE_LABELS,
        buckets=buckets,
    )  # fmt: skip


def _health(
    name: str, kind: Kind, unit: Unit, text: str, question: str, labels: tuple[Label, ...] = ()
) -> Metric:
    return Metric(
        name, kind, unit, HEALTH, text, question, Origin.PAGE, labels=labels, identity=ENGINE_LABELS
    )


def _source(
    name: str,
    kind: Kind,
    unit: Unit,
    text: str,
    question: str,
    labels: tuple[Label, ...] = (),
) -> Metric:
    return Metric(
        name, kind, unit, SIDECAR, text, question, Origin.SOURCE, labels=labels, identity=SOURCE_LABELS
    )


def _logged(
    name: str,
    kind: Kind,
    unit: Unit,
    text: str,
    question: str,
    labels: tuple[Label, ...] = (),
) -> Metric:
    """Return what only an engine's log tells of one rank; the sidecar's own engine series have both identities."""
    return Metric(
        name, kind, unit, SIDECAR, text, question, Origin.SOURCE, labels=labels,
        identity=ENGINE_LABELS + SOURCE_LABELS, is_level=kind is Kind.GAUGE,
    )  # fmt: skip


# -- split ------------------------------------------------------------------------------------------------------

DEVICE_TOKENS: Final = _level(
    "hisparse_device_tokens", Unit.TOKENS, SPLIT,
    "Used slots of the device pool; one slot holds one token's KV rows of all layers.",
    "How many tokens have a seat on the device now?",
)  # fmt: skip
DEVICE_TOKEN_USAGE: Final = _usage(
    "device",
    "Used slots of the device pool divided by its capacity, 0 to 1; 0 when the capacity is 0.",
    "How full is the device pool? Near 1 is normal: hot buffers use what there is, and give back what is spare.",
)
DEVICE_TOKEN_CAPACITY: Final = _level(
    "hisparse_device_token_capacity", Unit.TOKENS, SPLIT,
    "Slots of the device pool, used and free.",
    "How many tokens could have a seat on the device?",
)  # fmt: skip
DEVICE_TOKENS_SPARE: Final = _level(
    "hisparse_device_tokens_spare", Unit.TOKENS, SPLIT,
    "Used device slots that hot buffers would give back to a new request: what they have grown beyond each one's base.",
    "Is the device pool full of what requests need, or of what they can spare?",
)  # fmt: skip
HOST_TOKENS: Final = _level(
    "hisparse_host_tokens", Unit.TOKENS, SPLIT,
    "Used slots of the host pool; every token of an admitted request has one.",
    "How many tokens have their home in host memory now?",
)  # fmt: skip
HOST_TOKEN_USAGE: Final = _usage(
    "host",
    "Used slots of the host pool divided by its capacity, 0 to 1; 0 when the capacity is 0.",
    "How close is the engine to refusing or retracting requests?",
)
HOST_TOKEN_CAPACITY: Final = _level(
    "hisparse_host_token_capacity", Unit.TOKENS, SPLIT,
    "Slots of the host pool, used and free; 0 in resident mode.",
    "How many tokens could be at home in host memory?",
)  # fmt: skip
HOST_TOKENS_RESERVED: Final = _level(
    "hisparse_host_tokens_reserved", Unit.TOKENS, SPLIT,
    "Host slots promised to admitted requests for tokens that they have not generated yet.",
    "How much of the free host pool is already spoken for?",
)  # fmt: skip
HOST_TOKENS_CACHED: Final = _level(
    "hisparse_host_tokens_cached", Unit.TOKENS, SPLIT,
    "Host slots with rows of ended or retracted requests, kept for reuse; they count as free and are evicted for others.",
    "How much of the free host pool still saves prefill?",
)  # fmt: skip

# -- index keys -------------------------------------------------------------------------------------------------

INDEX_TOKENS: Final = _level(
    "hisparse_index_tokens", Unit.TOKENS, INDEX_KEYS,
    "Used slots of the index-key pool; it is on the device for the whole sequence.",
    "How many tokens can the indexer see now?",
)  # fmt: skip
INDEX_TOKEN_CAPACITY: Final = _level(
    "hisparse_index_token_capacity", Unit.TOKENS, INDEX_KEYS,
    "Slots of the index-key pool, used and free.",
    "Do index keys run out before the host pool does?",
)  # fmt: skip

# -- swap-in ----------------------------------------------------------------------------------------------------

SWAP_IN_LOOKUPS: Final = _counter(
    "hisparse_swap_in_lookups_total", Unit.TOKENS, SWAP_IN,
    "Top-k token positions that a decode step and layer asked to have on the device.",
    "How much does sparse attention ask for?",
)  # fmt: skip
SWAP_IN_HITS: Final = _counter(
    "hisparse_swap_in_hits_total", Unit.TOKENS, SWAP_IN,
    "Lookups whose row was in the hot buffer already.",
    "How often was the seat taken in advance? Hit ratio is hits divided by lookups.",
)  # fmt: skip
SWAP_IN_MISSES: Final = _counter(
    "hisparse_swap_in_misses_total", Unit.TOKENS, SWAP_IN,
    "Lookups whose row had to be copied from the host pool.",
    "How many rows cross the link because the hot buffer is too small?",
)  # fmt: skip
EVICTIONS: Final = _counter(
    "hisparse_evictions_total", Unit.TOKENS, SWAP_IN,
    "Rows that lost their hot-buffer slot to another row.",
    "Do hot buffers churn?",
)  # fmt: skip
HOST_TO_DEVICE_BYTES: Final = _counter(
    "hisparse_host_to_device_bytes_total", Unit.BYTES, SWAP_IN,
    "Bytes of KV rows copied from the host pool to the device.",
    "How much of the link does swap-in use?",
)  # fmt: skip
DEVICE_TO_HOST_BYTES: Final = _counter(
    "hisparse_device_to_host_bytes_total", Unit.BYTES, SWAP_IN,
    "Bytes of KV rows copied from the device to the host pool: backup and staging.",
    "How much of the link do backup and staging use?",
)  # fmt: skip
SWAP_IN_SECONDS: Final = _histogram(
    "hisparse_swap_in_seconds", SWAP_IN,
    "Time that one decode step spent making its top-k rows resident, all layers together. With compiled kernels it is the "
    "device's time from each index group's selection to the end of the copy for its last layer, taken of up to 4 groups a "
    "step, evenly spread, and scaled to all layers.",
    "How much of a step is swap-in? Copies for shared-index layers count although the first layer computes meanwhile.",
    (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0),
)  # fmt: skip

# -- work -------------------------------------------------------------------------------------------------------

DECODE_STEPS: Final = _counter(
    "hisparse_decode_steps_total", Unit.STEPS, WORK,
    "Decode steps taken; one step adds one token to every request of its batch.",
    "Is the engine stepping, and how fast?",
)  # fmt: skip
PROMPT_TOKENS: Final = _counter(
    "hisparse_prompt_tokens_total", Unit.TOKENS, WORK,
    "Prompt tokens prefilled, without those whose rows were reused.",
    "What is the prefill throughput?",
)  # fmt: skip
GENERATION_TOKENS: Final = _counter(
    "hisparse_generation_tokens_total", Unit.TOKENS, WORK,
    "Tokens generated.",
    "What is the decode throughput?",
)  # fmt: skip
PREFIX_HIT_TOKENS: Final = _counter(
    "hisparse_prefix_hit_tokens_total", Unit.TOKENS, WORK,
    "Prompt tokens whose rows another request had computed; they are shared, not computed again.",
    "How much prefill does prefix reuse save?",
)  # fmt: skip
DECODE_STEP_SECONDS: Final = _histogram(
    "hisparse_decode_step_seconds", WORK,
    "Duration of one decode step, from schedule to sampled tokens.",
    "How long is a step, and how long are the slow ones?",
    (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5,
     1.0, 2.0, 5.0, 10.0),
)  # fmt: skip
TIME_TO_FIRST_TOKEN_SECONDS: Final = _histogram(
    "hisparse_time_to_first_token_seconds", WORK,
    "Time from a request's arrival to its first token.",
    "How long does a user wait before anything happens?",
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0),
)  # fmt: skip
INTER_TOKEN_LATENCY_SECONDS: Final = _histogram(
    "hisparse_inter_token_latency_seconds", WORK,
    "Time between two tokens of one request.",
    "How smoothly do tokens arrive?",
    (0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5,
     1.0, 2.0, 5.0, 10.0),
)  # fmt: skip
REQUEST_DURATION_SECONDS: Final = _histogram(
    "hisparse_request_duration_seconds", WORK,
    "Time from a request's arrival to its last token.",
    "How long does a whole request take?",
    (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
)  # fmt: skip
RUNNING_REQUESTS: Final = _level(
    "hisparse_running_requests", Unit.REQUESTS, WORK,
    "Requests that decode now.",
    "How large is the batch?",
)  # fmt: skip
WAITING_REQUESTS: Final = _level(
    "hisparse_waiting_requests", Unit.REQUESTS, WORK,
    "Requests that wait for admission.",
    "Is there a queue?",
)  # fmt: skip
STAGING_REQUESTS: Final = _level(
    "hisparse_staging_requests", Unit.REQUESTS, WORK,
    "Admitted requests whose prompt rows are still being computed or copied to the host pool.",
    "How many requests hold host slots and do not decode yet?",
)  # fmt: skip
REQUESTS: Final = _counter(
    "hisparse_requests_total", Unit.REQUESTS, WORK,
    "Requests that ended, by outcome.",
    "How many requests ended well, were cut, or were refused?",
    (OUTCOME,),
)  # fmt: skip
RETRACTIONS: Final = _counter(
    "hisparse_retractions_total", Unit.REQUESTS, WORK,
    "Times that a running request gave up its slots to let others finish; it resumes later.",
    "Was more admitted than the pools can hold?",
)  # fmt: skip

# -- truth ------------------------------------------------------------------------------------------------------

VERIFY_CHECKS: Final = _counter(
    "hisparse_verify_checks_total", Unit.CHECKS, TRUTH,
    "Sampled checks that a swapped-in row equals its host row.",
    "Is the engine checking itself?",
)  # fmt: skip
VERIFY_MISMATCHES: Final = _counter(
    "hisparse_verify_mismatches_total", Unit.CHECKS, TRUTH,
    "Sampled checks that found a difference; anything above 0 is a defect.",
    "Are the tokens right?",
)  # fmt: skip
INVARIANT_VIOLATIONS: Final = _counter(
    "hisparse_invariant_violations_total", Unit.NONE, TRUTH,
    "Audits in which a pool's account did not add up; anything above 0 is a defect.",
    "Does every slot have one owner?",
)  # fmt: skip

# -- identity and health ----------------------------------------------------------------------------------------

ENGINE_INFO: Final = _health(
    "hisparse_engine_info", Kind.INFO, Unit.NONE,
    "What the engine is; the value is always 1.",
    "Which version runs where, in which mode?",
    INFO_LABELS,
)  # fmt: skip
ENGINE_UP: Final = _health(
    "hisparse_engine_up", Kind.GAUGE, Unit.NONE,
    "1 while the engine process lives, 0 after its death; told by the lock on its stats page.",
    "Is the engine alive?",
)  # fmt: skip
ENGINE_START_TIME_SECONDS: Final = _health(
    "hisparse_engine_start_time_seconds", Kind.GAUGE, Unit.SECONDS,
    "Unix time at which the engine started to publish.",
    "Has it restarted?",
)  # fmt: skip
ENGINE_LAST_STEP_TIMESTAMP_SECONDS: Final = Metric(
    "hisparse_engine_last_step_timestamp_seconds", Kind.GAUGE, Unit.SECONDS, HEALTH,
    "Unix time of the last decode step; the start time until there is one.",
    "Is it alive but stuck? Compare with the running requests.",
    field="last_step_timestamp", identity=ENGINE_LABELS,
)  # fmt: skip

# -- exporter ---------------------------------------------------------------------------------------------------

EXPORTER_PAGES_SKIPPED: Final = Metric(
    "hisparse_exporter_pages_skipped", Kind.GAUGE, Unit.PAGES, EXPORTER,
    "Stats pages in the folder that this scrape left out, by reason.",
    "Is an engine missing because its page cannot be read?",
    Origin.EXPORTER, labels=(SKIP_REASON,),
)  # fmt: skip

# -- sidecar ----------------------------------------------------------------------------------------------------

SOURCE_UP: Final = _source(
    "hisparse_source_up", Kind.GAUGE, Unit.NONE,
    "1 while the followed log can be read, else 0.",
    "Can the sidecar read its log?",
)  # fmt: skip
SOURCE_LAST_SAMPLE_TIMESTAMP_SECONDS: Final = _source(
    "hisparse_source_last_sample_timestamp_seconds", Kind.GAUGE, Unit.SECONDS,
    "Unix time of the last record read from the log.",
    "How old are the numbers?",
)  # fmt: skip
SOURCE_LINES: Final = _source(
    "hisparse_source_lines_total", Kind.COUNTER, Unit.LINES,
    "Lines read from the log, by what became of them.",
    "Does the parser understand this log?",
    (LINE_OUTCOME,),
)  # fmt: skip
SOURCE_BYTES: Final = _source(
    "hisparse_source_bytes_total", Kind.COUNTER, Unit.BYTES,
    "Bytes read from the log.",
    "How much does the engine log?",
)  # fmt: skip
SOURCE_LAG_BYTES: Final = _source(
    "hisparse_source_lag_bytes", Kind.GAUGE, Unit.BYTES,
    "Bytes of the log that are written but not read yet.",
    "Does the sidecar keep up?",
)  # fmt: skip
SOURCE_SKIPPED_BYTES: Final = _source(
    "hisparse_source_skipped_bytes_total", Kind.COUNTER, Unit.BYTES,
    "Bytes of the log that were never parsed: of lines beyond the length limit, or lost in an overrun.",
    "Is anything missing from the counters?",
)  # fmt: skip
SOURCE_STATE: Final = _source(
    "hisparse_source_state", Kind.GAUGE, Unit.NONE,
    "1 for the state that the log tells of its engine, 0 for the others.",
    "Is the engine idle, stuck or dead, or does nobody know?",
    (ENGINE_STATE,),
)  # fmt: skip
SOURCE_RANKS: Final = _source(
    "hisparse_source_ranks", Kind.GAUGE, Unit.NONE,
    "Ranks that the sidecar keeps numbers of.",
    "Does every rank log here?",
)  # fmt: skip
SOURCE_REFUSED_RECORDS: Final = _source(
    "hisparse_source_refused_records_total", Kind.COUNTER, Unit.LINES,
    "Records of ranks beyond the limit of ranks per log; their numbers are not exported.",
    "Is a rank missing because the log names too many?",
)  # fmt: skip
SOURCE_UNKNOWN_FIELDS: Final = _source(
    "hisparse_source_unknown_fields_total", Kind.COUNTER, Unit.NONE,
    "Fields of records that the parser does not know and skipped.",
    "Does a new version of the engine say more than the sidecar reads?",
)  # fmt: skip
SIDECAR_STATE_FILE_FAILURES: Final = Metric(
    "hisparse_sidecar_state_file_failures_total", Kind.COUNTER, Unit.NONE, SIDECAR,
    "Times that positions and counters could not be saved; until they can, a restart repeats lines.",
    "Would a restart repeat or skip lines?",
    Origin.SOURCE,
)  # fmt: skip

HOST_ALLOCATION_FAILURES: Final = _logged(
    "hisparse_host_allocation_failures_total", Kind.COUNTER, Unit.NONE,
    "Times that the host pool had too few free slots for a request.",
    "Is the host pool too small? This is the failure that stops HiSparse in production.",
)  # fmt: skip
DEVICE_ALLOCATION_FAILURES: Final = _logged(
    "hisparse_device_allocation_failures_total", Kind.COUNTER, Unit.NONE,
    "Times that a request got no device buffer.",
    "Is the device pool too small for the hot buffers?",
)  # fmt: skip
SYNCHRONOUS_SWAP_INS: Final = _logged(
    "hisparse_synchronous_swap_ins_total", Kind.COUNTER, Unit.NONE,
    "Times that the engine fell back to synchronous swap-in.",
    "Has the engine lost its fast path?",
)  # fmt: skip
ENGINE_STARTS: Final = _logged(
    "hisparse_engine_starts_total", Kind.COUNTER, Unit.NONE,
    "Times that the engine said it was ready; an increase is a restart.",
    "Does the engine restart?",
)  # fmt: skip
ENGINE_CRASHES: Final = _logged(
    "hisparse_engine_crashes_total", Kind.COUNTER, Unit.NONE,
    "Times that the log showed a crash; all lines until the next sign of life are one.",
    "Does the engine crash?",
)  # fmt: skip
GENERATION_TOKENS_PER_SECOND: Final = _logged(
    "hisparse_generation_tokens_per_second", Kind.GAUGE, Unit.NONE,
    "Generation throughput as the engine logged it, over its own log interval.",
    "How fast does an engine decode that does not export a counter of its tokens?",
)  # fmt: skip
POOL_TOKENS: Final = _logged(
    "hisparse_pool_tokens", Kind.GAUGE, Unit.TOKENS,
    "Used slots of a pool as the engine logged them; only of lines or pools without a split.",
    "How many tokens does an engine hold that does not log the split?",
    (LOG_POOL,),
)  # fmt: skip
POOL_TOKEN_USAGE: Final = _logged(
    "hisparse_pool_token_usage", Kind.GAUGE, Unit.RATIO,
    "Usage of a pool as the engine logged it, 0 to 1, to two decimals; only of lines or pools without a split.",
    "How full is a pool that is not split?",
    (LOG_POOL,),
)  # fmt: skip

# -- the whole --------------------------------------------------------------------------------------------------

ALL: Final[tuple[Metric, ...]] = tuple(value for value in globals().values() if isinstance(value, Metric))
"""Every metric, in the order of this file."""

PAGE: Final[tuple[Metric, ...]] = tuple(
    sorted((metric for metric in ALL if metric.num_cells), key=lambda metric: metric.kind is Kind.HISTOGRAM)
)
"""The metrics that have cells in a stats page, in cell order: scalars, then histograms, each in file order."""


def page_hash(metrics: Iterable[Metric]) -> bytes:
    """Return 16 bytes that change exactly when the meaning of a page's cells changes; help texts do not count."""
    facts = [(m.name, m.kind.value, [field for _, field in m.samples], m.buckets) for m in metrics]
    return hashlib.sha256(repr(facts).encode()).digest()[:16]


CATALOGUE_HASH: Final[bytes] = page_hash(PAGE)
"""Two programs with the same hash agree on every cell of a stats page."""
