"""The command: python -m benchmarks.wild."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.wild import BUGS
from benchmarks.wild.packages import default_cache
from benchmarks.wild.page import PAGE, write
from benchmarks.wild.result import TOOLS, Results
from benchmarks.wild.runs import ROOT, run_all


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not known yet, and write the page."""
    parser = argparse.ArgumentParser("python -m benchmarks.wild", description="Real races, with both explorers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these bugs (all)")
    parser.add_argument("--list", action="store_true", help="list the names, and end")
    parser.add_argument("--tool", choices=TOOLS, help="only this tool (both)")
    parser.add_argument("--again", action="store_true", help="also what is known already")
    parser.add_argument("--budget", type=float, default=60.0, metavar="S", help="seconds for one search (60)")
    parser.add_argument("--limit", type=float, metavar="S", help="seconds after which a child is ended (budget + 120)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the packages (%(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "wild.json", help="(build/wild.json)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (docs/in_the_wild.md)")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(BUGS))
        return
    if unknown := [name for name in args.names if name not in BUGS]:
        parser.error(f"'{unknown[0]}' is no bug that is known; --list lists them.")
    if not args.page.is_file():
        parser.error(f"--page {args.page} does not exist; give a page whose tables are to be replaced.")
    args.results.parent.mkdir(parents=True, exist_ok=True)
    results = Results(args.results)
    try:
        run_all(
            [BUGS[name] for name in args.names or BUGS], [args.tool] if args.tool else TOOLS, results,
            cache=args.cache, budget_s=args.budget, limit_s=args.limit or args.budget + 120, again=args.again,
        )  # fmt: skip
    finally:
        write(results, args.page)


if __name__ == "__main__":
    main()
