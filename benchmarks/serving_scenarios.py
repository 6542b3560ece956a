"""Runs the load generator's scenarios on the demo's checkpoint: some three minutes on two cores.

    python benchmarks/serving_scenarios.py [steady] [overload] [prefix]      all of them unless named

Writes results/serving_<scenario>.json, and with --plots a picture of each; exits with 1 when something is not as it must
be: a request that did not end, a pool that is not empty, an answer that prefix reuse changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "metrics")]

from rich.console import Console  # noqa: E402 - the path comes first

from benchmarks.load_generator.picture import save_picture  # noqa: E402
from benchmarks.load_generator.records import write_json  # noqa: E402
from benchmarks.load_generator.scenarios import ALL, Scenario, run_case  # noqa: E402
from benchmarks.load_generator.table import print_run, progress  # noqa: E402
from hisparse_engine.demo.checkpoint import ensure_demo_checkpoint  # noqa: E402

RESULTS = ROOT / "benchmarks/results"


def run(scenario: Scenario, checkpoint: Path, folder: Path) -> bool:
    """Run every case, write what came out, and return whether all is as it must be."""
    console = Console()
    for name, case in scenario.cases.items():
        console.rule(f"{scenario.name}: {name}", align="left")
        with progress(case.experiment.load, Console(stderr=True)) as show:
            scenario.runs[name] = run_case(case, checkpoint, show)
        print_run(scenario.runs[name], console)
    result = scenario.to_json()
    write_json(folder / f"serving_{scenario.name}.json", result)
    console.print_json(json.dumps(result["findings"]))
    return bool(result["findings"]["holds"])


def main() -> None:
    """Run the scenarios that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="scenario")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--plots", type=Path, help="folder for a picture of each run")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(ALL):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    checkpoint, holds = ensure_demo_checkpoint(), True
    for name in options.scenarios or ALL:
        scenario = ALL[name]()
        holds = run(scenario, checkpoint, options.folder) and holds
        if options.plots is not None:
            for case, last in scenario.runs.items():
                save_picture(
                    last,
                    options.plots / f"{name}-{case}.png".replace(" ", "-").replace(",", ""),
                    f"{name}, {case}",
                )
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
