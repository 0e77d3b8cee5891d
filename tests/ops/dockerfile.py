"""Reads a Dockerfile and runs its steps without Docker, as far as possible, in a folder."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

STEP_TIMEOUT_S: Final = 300


class Step(msgspec.Struct, frozen=True):
    """One instruction with all that follows it, continued lines joined."""

    instruction: str
    rest: str

    def words(self) -> list[str]:
        """The arguments of an ENTRYPOINT or CMD in its exec form, else the words of a shell's line."""
        if self.rest.startswith("["):
            words: list[str] = json.loads(self.rest)
            return words
        return shlex.split(self.rest)


def read_stages(path: Path) -> list[list[Step]]:
    """The steps of each build stage; the first of each is its FROM."""
    text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    stages: list[list[Step]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            stages.append([])
        stages[-1].append(Step(instruction, " ".join(rest.split())))
    return stages


def last(stage: list[Step], instruction: str) -> Step:
    """The effective step, if an instruction occurs more than once."""
    return [step for step in stage if step.instruction == instruction][-1]


class Context:
    """The build context: the folder without what .dockerignore excludes. The last matching rule decides."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        lines = (folder / ".dockerignore").read_text(encoding="utf-8").splitlines()
        self._rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def sends(self, relative: PurePosixPath) -> bool:
        """Whether this file is in the build context; a rule about a folder applies to all that is in it."""
        sent = True
        for rule in self._rules:
            pattern = rule.removeprefix("!")
            if any(_matches(path, pattern) for path in (relative, *relative.parents)):
                sent = rule.startswith("!")
        return sent

    def copy(self, source: str, target: Path) -> int:
        """Copies a file or a folder as COPY does. Returns the number of files."""
        start = self._folder / source
        files = [start] if start.is_file() else [path for path in start.rglob("*") if path.is_file()]
        sent = [path for path in files if self.sends(PurePosixPath(path.relative_to(self._folder)))]
        for path in sent:
            to = target / path.relative_to(start) if start.is_dir() else target / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)
        return len(sent)


def _matches(path: PurePosixPath, pattern: str) -> bool:
    """Go's filepath.Match for the patterns in use: `*` within one part, and a leading `**/` for any depth."""
    anywhere = pattern.startswith("**/")
    parts = pattern.removeprefix("**/").split("/")
    regex = "/".join(re.escape(part).replace(r"\*", "[^/]*") for part in parts)
    return re.fullmatch(f"(?:.*/)?{regex}" if anywhere else regex, str(path)) is not None


class Build:
    """Runs the steps of all stages, in one folder `root` in place of the root of the image's file system.

    Paths of the image in `rebased` become paths below the root; every other absolute path is refused. Python is the one
    that runs the tests, not that of the FROM image. All stages share the folder, so a COPY between stages must not move
    anything (a virtual environment cannot be moved anyway).
    """

    def __init__(self, context: Context, root: Path, rebased: tuple[str, ...]) -> None:
        self._context = context
        self._root = root
        self._rebased = rebased
        self._workdir = root
        self.done: list[str] = []
        self.env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(root)}

    def run(self, step: Step) -> None:
        """Runs one step. Raises `AssertionError` with its output if it fails."""
        match step.instruction:
            case "WORKDIR":
                self._workdir = self._inside(step.rest)
                self._workdir.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(step.words())
            case "RUN":
                self.shell(step.rest)
            case "ENV":
                for setting in step.words():
                    name, _, value = setting.partition("=")
                    self.env[name] = self.rebase(value).replace("$PATH", self.env["PATH"])
            case "FROM" | "USER" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                return  # of the image's own running; the tests look at each
            case _:
                raise AssertionError(f"this test does not know the step {step.instruction}")
        self.done.append(step.instruction)

    def shell(self, line: str) -> str:
        """The output of a shell line of the image. Raises `AssertionError` if its exit status is not 0."""
        ended = subprocess.run(
            ["/bin/sh", "-c", self.rebase(line)],
            cwd=self._workdir,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        assert ended.returncode == 0, f"RUN {line}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def rebase(self, text: str) -> str:
        """The text with the image's paths below the root; another absolute path is an `AssertionError`."""

        def inside(match: re.Match[str]) -> str:
            path = match[0]
            assert any(path == known or path.startswith(f"{known}/") for known in self._rebased), f"where is {path}?"
            return f"{self._root}{path}"

        return re.sub(r"(?<![\w.~$/-])/[\w./-]+", inside, text)

    def _inside(self, path: str) -> Path:
        return Path(self.rebase(path)) if path.startswith("/") else self._workdir / path

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):
            _, source, target = words
            assert source == target, f"{source} moves to {target} between stages"
            assert self._inside(source).exists(), f"no stage made {source}"
            return
        source, target = words
        assert self._context.copy(source, self._inside(target)), f"{source} is not in what the builder is sent"
