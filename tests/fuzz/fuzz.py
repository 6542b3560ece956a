"""Coverage-guided fuzzing of the grammar of SGLang's log, and of skimming; needs atheris.

    python tests/fuzz/fuzz.py parsing -max_total_time=600 CORPUS_FOLDER

Bytes are a log, line by line; ``promises.py`` says what is a finding.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from tests.fuzz import promises

TARGETS = {"parsing": promises.parsing_holds, "skimming": promises.skimming_holds}


def main() -> None:
    """Fuzz the target that the first argument names; libFuzzer takes the others."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: promises.takes_linear_time(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
