"""Command line of the table of networks; see the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lrp_edge.files import write_text
from tools import families
from tools.families.catalogue import SUBJECTS, chosen
from tools.families.page import page
from tools.families.runs import Limits, drop, measure_all, measure_one
from tools.families.steps import QUICK, STEPS, missing
from tools.families.store import Store

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    arguments = _parser().parse_args()
    store = Store(arguments.docs.resolve())
    if arguments.command == "page":
        write_text(store.docs / "families.md", page(store))
    elif arguments.command == "one":
        from tools.families.deployed import Deployed

        measure_one(store, Deployed(SUBJECTS[arguments.name]), arguments.steps)
    else:
        steps = QUICK if arguments.quick else arguments.steps
        subjects = chosen(arguments.only)
        if not subjects:
            sys.exit(f"no network or head is named like {arguments.only!r}; see: python -m tools.families list")
        if arguments.command == "list":
            for subject in subjects:
                print(f"{subject.name}: {', '.join(missing(subject, store.steps(subject), steps)) or 'done'}")
            return
        if arguments.again or arguments.failed:
            drop(store, subjects, steps, arguments.failed)
        measure_all(store, subjects, steps, Limits(arguments.minutes, arguments.memory_gb))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=families.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page and, in families/, of the figures")
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure", help="measure what is missing")
    for each in (measure, commands.add_parser("list", help="say what each still needs")):
        each.add_argument("--only", default="*", metavar="PATTERN", help="networks by name, as 'timm/*' or 'head/*'")
        which = each.add_mutually_exclusive_group()
        which.add_argument("--quick", action="store_true", help="only unroll and compare in PyTorch")
        which.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    again = measure.add_mutually_exclusive_group()
    again.add_argument("--again", action="store_true", help="measure these steps anew where they are stored")
    again.add_argument("--failed", action="store_true", help="measure these steps anew where they failed")
    measure.add_argument("--minutes", type=float, default=Limits.minutes, help="most time of one step")
    measure.add_argument("--memory-gb", type=float, default=Limits.gigabytes, help="most memory of one network")
    one = commands.add_parser("one", help="measure steps of one network in this process, without limits")
    one.add_argument("name", choices=list(SUBJECTS), metavar="NAME")
    one.add_argument("steps", nargs="+", choices=list(STEPS))
    commands.add_parser("page", help="write docs/families.md from the stored figures")
    return parser


if __name__ == "__main__":
    main()
