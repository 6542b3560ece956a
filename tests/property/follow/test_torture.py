"""Whatever happens to the files: each complete record is counted exactly once, restarts and kills included."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.property.follow.world import World

SIZES = st.integers(1, 90)
STEPS = st.one_of(
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("poll"), st.sampled_from([1, 7, 64, 4096])),
    st.tuples(st.just("poll"), st.just(1 << 16)),
    st.tuples(st.sampled_from(["commit", "kill", "reopen", "rotate", "rotate_and_reopen"])),
    st.tuples(st.sampled_from(["copytruncate", "truncate", "recreate", "switch"])),
    st.tuples(st.just("deny"), st.booleans()),
    st.tuples(st.just("advance"), st.sampled_from([0.3, 2.0])),
)


def play(world: World, steps: list[tuple[object, ...]]) -> None:
    for name, *arguments in steps:
        if name == "deny":
            world.disk.denied = bool(arguments[0])
        else:
            getattr(world, str(name))(*arguments)
    world.settle()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(STEPS, max_size=40),
    pattern=st.sampled_from(["x.log", "x.log*"]),
    append=st.booleans(),
    linked=st.booleans(),
)
@example(  # the inode of an empty log is used again while nobody runs
    steps=[(name,) for name in ("kill", "rotate_and_reopen")]
    + [("write", 1), ("rotate_and_reopen",), ("rotate_and_reopen",), ("rotate",)],
    pattern="x.log",
    append=False,
    linked=False,
)
@example(  # the copy cannot be opened until long after the truncation
    steps=[("write", 17), ("poll", 65536), ("copytruncate",), ("deny", True), ("poll", 1), ("poll", 1)],
    pattern="x.log*",
    append=False,
    linked=False,
)
@example(  # copied and truncated while nobody runs
    steps=[("write", 17), ("poll", 65536), ("commit",), ("copytruncate",), ("kill",)],
    pattern="x.log",
    append=False,
    linked=False,
)
@example(  # a generation cannot be opened while it is the newest
    steps=[("recreate",), ("deny", True), ("write", 1), ("rotate",), ("poll", 1)],
    pattern="x.log",
    append=False,
    linked=False,
)
@example(  # the symlink leads elsewhere, and then the process is killed
    steps=[("write", 1), ("switch",), ("kill",)], pattern="x.log", append=False, linked=True
)
def test_each_record_is_counted_exactly_once(
    steps: list[tuple[object, ...]], pattern: str, append: bool, linked: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), pattern, append=append, linked=linked)
        play(world, steps)
        world.follower.close()
        assert world.wrong() == {}, world.source.counts
