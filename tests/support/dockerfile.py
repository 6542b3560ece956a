"""A Dockerfile without a container engine: its stages read, and a stage's steps carried out in folders of this machine.

Only what our Dockerfile uses is understood: FROM, COPY, RUN, ENV, WORKDIR; the rest says how an image runs. Paths in
the image become paths under one folder per stage, because nothing here may change the machine's own root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_INSTRUCTION = re.compile(r"^([A-Z]+)\s+(.*)$", re.DOTALL)


@dataclass
class Stage:
    """One stage: its name, what it begins with, and its instructions in order."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """Return the argument of the last such instruction, or nothing."""
        return next((text for kind, text in reversed(self.steps) if kind == instruction), "")


def stages(text: str) -> dict[str, Stage]:
    """Return the stages by name, in order; ``ARG`` before the first of them is not kept."""
    found: dict[str, Stage] = {}
    current: Stage | None = None
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in without_comments.replace("\\\n", " ").splitlines():
        match = _INSTRUCTION.match(line.strip())
        if match is None:
            continue
        kind, argument = match[1], " ".join(match[2].split())
        if kind == "FROM":
            base, _, name = argument.partition(" AS ")
            current = found[name] = Stage(name, base)
        elif current is not None:
            current.steps.append((kind, argument))
    return found


class Builder:
    """Carries out stages under ``folder``; ``context`` is what the build sees, ``python`` what the base image has."""

    def __init__(self, dockerfile: str, context: Path, folder: Path, python: Path) -> None:
        self._stages = stages(dockerfile)
        self._context = context
        self._folder = folder
        self._python = python

    def build(self, name: str) -> Path:
        """Return the root of a stage, built first, with all that it needs, unless it was."""
        root = self._folder / name
        if root.exists():
            return root
        stage = self._stages[name]
        if stage.base in self._stages:
            shutil.copytree(self.build(stage.base), root, symlinks=True)
        else:
            root.mkdir(parents=True)
        environment, folder = self._inherited(stage.base), root
        for kind, argument in stage.steps:
            if kind == "WORKDIR":
                folder = root / argument.lstrip("/")
                folder.mkdir(parents=True, exist_ok=True)
            elif kind == "ENV":
                environment |= dict(pair.split("=", 1) for pair in argument.split())
            elif kind == "COPY":
                self._copy(argument, root, self._workdir(stage, folder))
            elif kind == "RUN":
                self._run(argument, root, self._workdir(stage, folder), environment)
        return root

    def _inherited(self, base: str) -> dict[str, str]:
        if base not in self._stages:
            return {}
        stage = self._stages[base]
        environment = self._inherited(stage.base)
        for kind, argument in stage.steps:
            if kind == "ENV":
                environment |= dict(pair.split("=", 1) for pair in argument.split())
        return environment

    def _workdir(self, stage: Stage, folder: Path) -> Path:
        if folder != self._folder / stage.name or stage.base not in self._stages:
            return folder
        return folder / self._stages[stage.base].last("WORKDIR").lstrip("/")

    def _copy(self, argument: str, root: Path, folder: Path) -> None:
        words = argument.split()
        source = self._context
        while words[0].startswith("--"):
            option, value = words.pop(0).split("=")
            if option == "--from":
                source = self.build(value)
        *names, target = words
        for name in names:
            _place(
                source / name.lstrip("/"),
                root / target.lstrip("/") if target.startswith("/") else folder / target,
            )

    def _run(self, command: str, root: Path, folder: Path, environment: dict[str, str]) -> None:
        while command.startswith("--"):
            command = command.split(" ", 1)[1]
        command = re.sub(r"(?<=[\s=])/(opt|wheels)\b", lambda m: f"{root}/{m[1]}", command)
        path = f"{self._python.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", command], cwd=folder, env={**os.environ, **environment, "PATH": path},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"RUN {command}\n{done.stdout}{done.stderr}"


def _place(source: Path, target: Path) -> None:
    """As COPY does: a folder's content into the target; a file into it where the target is a folder."""
    assert source.exists(), f"COPY: {source} does not exist"
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    else:
        target = target / source.name if target.is_dir() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
