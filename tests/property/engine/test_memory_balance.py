"""The plan that a budget gets: kept, used up, and no plan within it holds one request more."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hisparse_engine.layout import PoolSizes
from hisparse_engine.memory_plan import MemoryPlan
from hisparse_engine.plan.assemble import Blueprint
from hisparse_engine.plan.balance import Balance, Budget
from tests.support.models import TOP_K, tiny_config

MODEL = tiny_config(num_hidden_layers=3, index_topk_freq=2, max_position_embeddings=5000)
WEIGHTS = 1 << 20
BLUEPRINT = Blueprint(MODEL, "bfloat16", WEIGHTS, 16, reserve=1 << 16)
FIXED = BLUEPRINT.plan(PoolSizes(1, 1, 1, 1), 1, resident=False).all_device_bytes


def balances_with(device: int = 0, host: int = 0) -> st.SearchStrategy[Balance]:
    """Draw budgets of at least so many bytes, the device's on top of what is always needed."""
    return st.builds(
        lambda device, host, buffer, most: Balance(BLUEPRINT, Budget(FIXED + device, host), buffer, most),
        st.integers(device, 1 << 26),
        st.integers(host, 1 << 25),
        st.integers(TOP_K, 400),
        st.one_of(st.none(), st.integers(1, 40)),
    )


balances = balances_with()
lengths = st.integers(1, 5000)


def within(plan: MemoryPlan, budget: Budget) -> bool:
    return plan.all_device_bytes <= budget.device and plan.host_bytes <= budget.host


@settings(deadline=None)
@given(balances, lengths, st.booleans())
def test_the_best_plan_is_within_budget_and_holds_what_it_says(
    balance: Balance, context: int, resident: bool
) -> None:
    count = balance.requests(context, resident=resident)
    plan = balance.best(context, resident=resident)
    assert (plan is None) == (count == 0)
    if plan is not None:
        assert within(plan, balance.budget)
        assert plan.concurrency(context) == plan.max_running_requests == count
        assert resident or plan.sizes.device_tokens > balance.buffer
        assert balance.most is None or count <= balance.most


@settings(deadline=None)
@given(balances, lengths, st.booleans())
def test_one_request_more_is_bounded_by_what_is_named(balance: Balance, context: int, resident: bool) -> None:
    count = balance.requests(context, resident=resident)
    bound = balance.bound(count, context, resident=resident)
    if bound == "max_running_requests":
        assert count == balance.most
        return
    more = replace(balance, most=None).needed(count + 1, context, resident=resident)
    assert (
        more.device > balance.budget.device if bound == "device memory" else more.host > balance.budget.host
    )
    assert bound in ("device memory", "host memory")


@settings(deadline=None)
@given(balances_with(1 << 22, 1 << 21), st.integers(1, 1000))
def test_what_is_left_goes_to_hot_buffers_and_then_to_further_tokens(balance: Balance, context: int) -> None:
    plan = balance.best(context, resident=False)
    assume(plan is not None)
    assert plan is not None
    sizes, count = plan.sizes, plan.max_running_requests

    def holds(device: int, held: int) -> bool:
        bigger = BLUEPRINT.plan(
            PoolSizes(device, held, held, sizes.device_buffer_size), count, resident=False
        )
        return within(bigger, balance.budget)

    all_hot = sizes.device_tokens >= count * context
    if not all_hot:
        assert not holds(sizes.device_tokens + 1, count * context)
    assert not holds(sizes.device_tokens, sizes.host_tokens + 1)
    assert sizes.host_tokens == sizes.index_tokens >= count * context


@settings(deadline=None)
@given(balances, lengths, st.booleans(), st.integers(1, 20))
def test_what_some_requests_need_is_enough_for_just_so_many(
    balance: Balance, context: int, resident: bool, count: int
) -> None:
    needed = balance.needed(count, context, resident=resident)
    exactly = replace(balance, budget=needed, most=None).best(context, resident=resident)
    assert exactly is not None
    assert exactly.concurrency(context) == exactly.max_running_requests == count
    less = replace(balance, budget=Budget(needed.device - 1, needed.host), most=None)
    assert less.requests(context, resident=resident) == count - 1


def test_long_contexts_gain_and_short_ones_do_not() -> None:
    balance = Balance(BLUEPRINT, Budget(FIXED + (1 << 26), 1 << 30), 2 * TOP_K)
    counts = {n: [balance.requests(n, resident=mode) for mode in (False, True)] for n in (32, 4096)}
    hierarchical, resident = counts[4096]
    assert hierarchical >= 2 * resident > 0
    hierarchical, resident = counts[32]
    assert hierarchical <= resident
