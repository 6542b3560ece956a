"""Whatever happens to the files: each complete record is counted exactly once, restarts and kills included."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
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


WEIGHTED = [
    *["write"] * 8, *["poll"] * 5, *["commit"] * 2, *["rotate_and_reopen"] * 2, "kill", "reopen", "rotate",
    "copytruncate", "truncate", "recreate", "switch", "deny", "allow", "advance",
]  # fmt: skip


def random_step(rng: random.Random) -> tuple[object, ...]:
    name = rng.choice(WEIGHTED)
    arguments = {
        "write": (rng.randrange(1, 200),),
        "poll": (rng.choice([1, 64, 4096, 1 << 16]),),
        "advance": (rng.choice([0.3, 2.0]),),
        "deny": (True,),
        "allow": (False,),
    }
    return ("deny" if name == "allow" else name, *arguments.get(name, ()))


@pytest.mark.parametrize("seed", range(4))
def test_long_random_lives(seed: int) -> None:
    """Longer than hypothesis likes them: most of what was ever wrong here needed a dozen steps in a row."""
    rng = random.Random(seed)
    for _ in range(50):
        steps = [random_step(rng) for _ in range(rng.randrange(5, 120))]
        pattern, append, linked = rng.choice(["x.log", "x.log*"]), rng.random() < 0.5, rng.random() < 0.3
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), pattern, append=append, linked=linked)
            play(world, steps)
            world.follower.close()
            assert world.wrong() == {}, (pattern, append, linked, steps)


FOUND = [
    # the file that the symlink led to was truncated, and then the process killed
    ("x.log", True, True, "write 168, poll 65536, commit, truncate, write 118, switch, kill"),
    # a copy under a matching name is remembered, and beside a rotated log
    ("x.log*", False, False, "write 55, copytruncate, rotate, poll 4096, commit, reopen, kill"),
    # an inode that was remembered is used again by a copy
    ("x.log*", False, False, "recreate, kill, write 18, commit, poll 65536, copytruncate"),
    # the inode of a rotated file that was known is used again by one that nobody saw
    (
        "x.log",
        True,
        False,
        "copytruncate, poll 64" + ", rotate_and_reopen" * 3 + ", write 138, rotate_and_reopen",
    ),
]


@pytest.mark.parametrize(("pattern", "append", "linked", "steps"), FOUND)
def test_what_was_wrong_once(tmp_path: Path, pattern: str, append: bool, linked: bool, steps: str) -> None:
    world = World(tmp_path, pattern, append=append, linked=linked)
    play(world, [(name, *map(int, sizes)) for name, *sizes in map(str.split, steps.split(", "))])
    world.follower.close()
    assert world.wrong() == {}
