"""A log writer, a rotator, a disk that refuses, and a consumer that counts: the world of the torture test.

Every record is unique. The world knows for each one what a follower may be excused for:

- a record in bytes that were truncated away, or in a file that was deleted, may be missing only if it was not
  handed out before, or was handed out and not committed before a kill;
- a record in a file that a symlink led to may be missing if nobody looked, or might look, before it led elsewhere, or
  before a kill and not committed;
- a file beside the log that could not be read when it was first seen is known by its inode alone: one that is
  created with the same inode, and rotated away unseen, may be missing;
- no excuse counts a record twice, and no excuse is needed for a file that still exists under a rotated name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

from hisparse_metrics.follow.disk import Disk, Handle
from hisparse_metrics.follow.follower import Follower
from hisparse_metrics.follow.roster import FollowOptions
from hisparse_metrics.follow.state import StateFile
from hisparse_metrics.follow.watch import FileSource

RECORD = re.compile(rb"<(\d{6})\|x*\|\1>")
OPTIONS = FollowOptions(scan_seconds=0.0, linger_seconds=50.0, max_line_bytes=4096)


class TrackedHandle(Handle):
    """Tells its disk when it is closed."""

    def __init__(self, fd: int, disk: RefusingDisk) -> None:
        super().__init__(fd)
        self._disk = disk
        self.inode = os.fstat(fd).st_ino
        disk.held[self.inode] += 1

    def close(self) -> None:
        super().close()
        self._disk.held[self.inode] -= 1


class RefusingDisk(Disk):
    """Refuses to open anything while ``denied``, as for a user without permission, whoever runs the tests."""

    def __init__(self) -> None:
        self.denied = False
        self.held: Counter[int] = Counter()

    def open(self, path: str) -> Handle:
        if self.denied:
            raise PermissionError(13, "Permission denied", path)
        super().open(path).close()
        return TrackedHandle(os.open(path, os.O_RDONLY), self)


class World:
    """One path that is written, rotated and followed. ``linked``: the path is a symlink to the file of a run."""

    def __init__(self, folder: Path, pattern: str, *, append: bool, linked: bool) -> None:
        self.folder = folder
        self.path = folder / "x.log"
        self._pattern = str(folder / pattern)
        self._append = append
        self._linked = linked
        self.clock = 0.0
        self._runs = 0
        self.written: dict[int, int] = {}  # record -> inode it was completed in
        self.excused: set[int] = set()
        self._at_risk: set[int] = set()
        self._blind: set[int] = (
            set()
        )  # inodes beside the log that could not be read when they were first seen
        self.next_record = 0
        self._pending = b""
        self._pending_is_whole = True
        self.counted: Counter[int] = Counter()
        self.committed: Counter[int] = Counter()
        self._fd = self._open_new()
        self.start()

    # The follower's side

    def start(self) -> None:
        self.disk = RefusingDisk()
        source = FileSource("log", [self._pattern], options=OPTIONS, disk=self.disk, clock=lambda: self.clock)
        self.source = source
        self.follower = Follower([source], StateFile(self.folder / "state.json"))
        self.counted = Counter({int(k): int(str(v)) for k, v in self.follower.extra.items()})

    def poll(self, max_bytes: int) -> int:
        self.clock += 0.01
        batches = self.follower.poll(max_bytes)
        self._blind |= self._unreadable_siblings()
        for batch in batches:
            for line in batch.lines:
                if found := RECORD.fullmatch(line):
                    self.counted[int(found[1])] += 1
        return len(batches)

    def _unreadable_siblings(self) -> set[int]:
        chains = self.source._roster.chains.values()
        marks = [mark for chain in chains for mark in (chain.siblings or {}).values()]
        return {mark.file_id.inode for mark in marks if mark.is_unread}

    def commit(self) -> None:
        self.follower.commit({str(k): v for k, v in self.counted.items()})
        self._at_risk.clear()

    def kill(self) -> None:
        """What kill -9 leaves: the state file, and nothing of the process."""
        held = {inode for inode, count in self.disk.held.items() if count}
        committed = {int(key) for key in self.follower.extra}
        gone = {r for r, inode in self.written.items() if inode in held and not self._exists(inode)}
        self.excused |= self._at_risk | (gone - committed)
        if self._linked:
            known = self._inodes_in_state() | {self.path.stat().st_ino}
            self.excused |= {r for r, inode in self.written.items() if inode not in known} - committed
        self._at_risk.clear()
        self.follower.close()
        self.start()

    def advance(self, seconds: float) -> None:
        self.clock += seconds

    # The writer's side

    def write(self, size: int) -> None:
        """Write the next ``size`` bytes of the endless stream of records: a record may stop at any byte."""
        while size > 0:
            if not self._pending:
                self._pending = self._new_record()
            piece, self._pending = self._pending[:size], self._pending[size:]
            os.write(self._fd, piece)
            size -= len(piece)
            if not self._pending:
                self._complete()

    def reopen(self) -> None:
        """Finish the record, as a writer does that reopens its log between two, and go on in what the path names."""
        self.write(len(self._pending))
        os.close(self._fd)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._append else 0)
        self._fd = os.open(self.path, flags, 0o644)
        os.lseek(self._fd, 0, os.SEEK_END)

    def rotate(self) -> None:
        """Rename; the writer still has the old file until it reopens."""
        if self.path.exists() and not self._linked:
            self._shift()
            self.path.rename(self.folder / "x.log.1")

    def rotate_and_reopen(self) -> None:
        self.rotate()
        self.reopen()

    def copytruncate(self) -> None:
        if self.path.exists() and not self._linked:
            self._shift()
            shutil.copyfile(self.path, self.folder / "x.log.1")
            self.truncate()

    def truncate(self) -> None:
        if self.path.exists():
            os.truncate(self.path, 0)
            inode = self.path.stat().st_ino
            self._lose(inode, readable=False)
            if os.fstat(self._fd).st_ino == inode:
                self._pending_is_whole = not self._pending

    def recreate(self) -> None:
        if self.path.exists() and not self._linked:
            self._unlink(self.path)
        self.reopen()

    def switch(self) -> None:
        """Lead the symlink to the file of a new run."""
        if self._linked:
            self.write(len(self._pending))
            self._excuse_unseen(os.fstat(self._fd).st_ino)
            os.close(self._fd)
            self._fd = self._open_new()

    # The end

    def settle(self) -> None:
        """Let the writer finish, and the follower read until nothing more comes."""
        self.disk.denied = False
        self.write(len(self._pending))
        if not self.path.exists():
            self.reopen()
        for _ in range(4):
            while self.poll(1 << 16):
                pass
        self.commit()

    def wrong(self) -> dict[int, int]:
        """Return the records that were not counted as often as they must be."""
        self.excused |= {record for record, inode in self.written.items() if inode in self._blind}
        return {
            record: self.counted[record]
            for record in range(self.next_record)
            if self.counted[record] != 1 and not (record in self.excused and self.counted[record] == 0)
        }

    def _open_new(self) -> int:
        target = self.path
        if self._linked:
            self._runs += 1
            target = self.folder / f"run-{self._runs}.txt"
            link = self.folder / "link"
            link.symlink_to(target)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._append else 0), 0o644)
        if self._linked:
            link.rename(self.path)
        return fd

    def _new_record(self) -> bytes:
        number = self.next_record
        self.next_record += 1
        self._pending_is_whole = True
        return b"<%06d|%b|%06d>\n" % (number, b"x" * (number * 7 % 23), number)

    def _complete(self) -> None:
        record = self.next_record - 1
        inode = os.fstat(self._fd).st_ino
        self.written[record] = inode
        if not self._pending_is_whole:
            self.excused.add(record)
        if not self._exists(inode) and not self.disk.held[inode]:
            self.excused.add(record)

    def _shift(self) -> None:
        if (oldest := self.folder / "x.log.3").exists():
            self._unlink(oldest)
        for number in (2, 1):
            if (file := self.folder / f"x.log.{number}").exists():
                file.rename(self.folder / f"x.log.{number + 1}")

    def _unlink(self, path: Path) -> None:
        inode = path.stat().st_ino
        path.unlink()
        self._lose(inode, readable=bool(self.disk.held[inode]))

    def _lose(self, inode: int, *, readable: bool) -> None:
        """Excuse what nobody can read again; what is in memory but not committed is lost only by a kill."""
        for record in [r for r, i in self.written.items() if i == inode]:
            if not self.counted[record] and not readable:
                self.excused.add(record)
            elif not readable:
                self._at_risk.add(record)
            if not readable:
                del self.written[record]

    def _excuse_unseen(self, inode: int) -> None:
        """A file that a symlink led to, and that nobody opened meanwhile, has no name that could be known."""
        if not self.disk.held[inode]:
            self.excused |= {r for r, i in self.written.items() if i == inode and not self.counted[r]}

    def _inodes_in_state(self) -> set[int]:
        state = json.loads((self.folder / "state.json").read_text())
        return {file["inode"] for file in state["positions"]["log"]["files"]}

    def _exists(self, inode: int) -> bool:
        return any(entry.inode() == inode for entry in os.scandir(self.folder))
