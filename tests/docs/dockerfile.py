# SPDX-License-Identifier: Apache-2.0
"""Reads the Dockerfile, instruction by instruction."""

import re

import attrs

from tests.docs.pages import ROOT, read


@attrs.frozen
class Instruction:
    """One instruction of the Dockerfile, in the stage (0 is the first) it belongs to."""

    stage: int
    word: str
    rest: str


def instructions() -> list[Instruction]:
    """Every instruction on one line each, without comments."""
    text = re.sub(r"^\s*#.*\n", "", read(ROOT / "Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Instruction] = []
    stage = -1
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append(Instruction(stage, word, " ".join(rest.split())))
    return found


def last_stage(word: str) -> list[str]:
    """The arguments of each instruction ``word`` in the final stage."""
    found = instructions()
    return [one.rest for one in found if one.stage == found[-1].stage and one.word == word]
