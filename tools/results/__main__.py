"""Command line of the experiments; see the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from lrp_edge.files import write_text
from tools import results
from tools.results import plan
from tools.results.page import page, stored, write_readme
from tools.results.pictures import can_draw, draw_masks
from tools.results.runs import run_all, state


def main() -> None:
    parser = argparse.ArgumentParser(description=results.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("runs", help="train and measure what is missing")
    runs.add_argument("data", type=Path)
    runs.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    runs.add_argument("--splits", nargs="+", default=plan.SPLITS, choices=plan.SPLITS)
    runs.add_argument("--only", default="*", metavar="PATTERN", help="runs by SPLIT-NETWORK-SEED, as 'random-*-0'")
    runs.add_argument("--list", action="store_true", help="only say what each run still needs")
    masks = commands.add_parser("masks", help="draw masks of the networks that are trained")
    masks.add_argument("data", type=Path)
    masks.add_argument("--splits", nargs="+", default=["random"], choices=plan.SPLITS)
    commands.add_parser("page", help="write docs/results.md, and the README's figures, from the stored figures")
    arguments = parser.parse_args()
    if arguments.command == "page":
        write_text(plan.DOCS / "results.md", page())
        write_readme(plan.DOCS.parent / "README.md", stored())
    elif arguments.command == "masks":
        for split in arguments.splits:
            draw_masks(arguments.data, split, plan.DOCS / "results" / f"masks-{split}.png")
    elif arguments.list:
        for run in plan.planned(arguments.splits, arguments.only):
            print(f"{run.name}: {state(run)}")
    else:
        run_all(arguments.data, arguments.jobs, arguments.splits, arguments.only)
        for split in filter(can_draw, arguments.splits):
            draw_masks(arguments.data, split, plan.DOCS / "results" / f"masks-{split}.png")


if __name__ == "__main__":
    main()
