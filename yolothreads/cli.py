"""The command `yolothreads`: lab, run, doctor, bench, hazards, explore, claims."""

from __future__ import annotations

import argparse
import ast
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from yolothreads.errors import YoloThreadsError, need_extra, writing
from yolothreads.headless import exploring

# Each command imports what it needs, so that `yolothreads --help` does not wait for torch.

# Keyword arguments that several options share.
_NUMBER: dict[str, Any] = {"type": int, "metavar": "N"}
_JSON: dict[str, Any] = {"nargs": "?", "const": "-", "metavar": "FILE"}

_PATHS = {"images": "scenes", "weights": "bundled"}  # parameters that may be paths, and their default, which is not


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after `yolothreads`; by default those of the command line.

    Returns:
        0 on success, 1 if a notebook failed, the doctor found a problem or `explore` a bad schedule, 2 if the arguments
        make no sense, 3 if `explore` found nothing bad without seeing everything.
    """
    words, extra = list(sys.argv[1:] if argv is None else argv), []
    if words[:1] == ["lab"] and "--" in words:
        # `lab -- --no-browser`: argparse would take what follows the dashes for arguments of this command.
        at = words.index("--")
        words, extra = words[:at], words[at + 1 :]
    args = _parser().parse_args(words, argparse.Namespace(extra=extra))
    # Without this, ultralytics installs packages by itself while a lesson runs.
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        if args.needs:
            need_extra(f"yolothreads {args.name}", args.needs)
        return int(args.command(args))
    except YoloThreadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("yolothreads", description="Learn to run YOLO in threads without wrong results.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, does: Callable[[argparse.Namespace], int], text: str, needs: str = ""
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=does, name=name, needs=needs)
        return added

    command("lab", _lab, "Open the lessons in JupyterLab; arguments after -- are passed on to it.", "lessons")
    run = command("run", _run, "Execute notebooks without a browser.", "lessons")
    run.add_argument("names", nargs="*", metavar="NAME", help='a number, a name or a path: 2, "02_break_..." (all)')
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    run.add_argument("--out", default="build/run", metavar="DIR", help="where executed notebooks go (build/run)")
    run.add_argument("--report", metavar="DIR", help="also write HTML pages, one per notebook, and an index")
    run.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for each notebook (600)")
    run.add_argument("--quick", action="store_true", help="fewer trials, the same checks")
    command("doctor", _doctor, "Check whether this machine has what the lessons need.", "lessons")
    _add_bench(command("bench", _bench, "Measure every pool on this machine; takes some minutes.", "pools"))
    text = "Force each known hazard, and try it against every pool; takes about 9 minutes on two cores."
    hazards = command("hazards", _hazards, text, "pools")
    hazards.add_argument("--budget", type=float, default=6.0, metavar="S", help="seconds for each cell explored (6)")
    hazards.add_argument("--json", **_JSON, help="write JSON, to FILE or instead of text")
    text = "Run functions under every thread schedule with a bounded number of preemptions."
    explore = command("explore", _explore, text)
    exploring.add_arguments(explore)
    explore.add_argument("--json", **_JSON, help="write JSON, to FILE or instead of text")
    command("claims", _claims, "List the claims of the guide and the notebook that tests each one.", "lessons")
    return parser


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--rounds", **_NUMBER, help="interleaved rounds (5; growth 3)")
    bench.add_argument("--images", **_NUMBER, help="images a round (24; growth 16)")
    bench.add_argument("--workers", **_NUMBER, default=2, help="threads or processes of a pool (2)")
    bench.add_argument("--imgsz", **_NUMBER, default=640, help="side of the images in pixels (640)")
    bench.add_argument("--batch", **_NUMBER, default=8, help="most images that BatchingWorker does at once (8)")
    bench.add_argument("--device", default="cpu", help='"cpu", "cuda", "cuda:N", "mps" or "auto" (cpu)')
    bench.add_argument("--weights", default="bundled", help='"bundled", a path or an official name (bundled)')
    bench.add_argument("--json", **_JSON, help="write JSON, to FILE or instead of text")
    bench.add_argument("--plots", metavar="DIR", help="draw the figures, too, into this folder")
    bench.add_argument("--quick", action="store_true", help="1 round, 4 images of 160 pixels, no memory")
    text = "measure how speed and memory grow with workers, image size and images"
    about = (
        "Measure how pools grow; all of it takes about half an hour. All options of bench apply, too; give them before "
        "`growth`."
    )
    growth = bench.add_subparsers(title="or", metavar="growth").add_parser("growth", help=text, description=about)
    growth.set_defaults(command=_growth)
    growth.add_argument("--of", nargs="+", metavar="WHAT", help="any of workers, sizes, memory, images (all)")
    growth.add_argument("--counts", nargs="+", **_NUMBER, help="numbers of workers (1 2 4 8 16)")
    growth.add_argument("--sizes", nargs="+", **_NUMBER, help="sides of images in pixels (320 640 1280)")
    growth.add_argument("--pools", nargs="+", metavar="POOL", help="the pools (all but the slow and the unsafe)")
    growth.add_argument("--mapped", **_NUMBER, help="images that are mapped (10000)")
    # A default here would replace the value that was given before `growth`.
    repeated: dict[str, Any] = {"default": argparse.SUPPRESS, "help": "as for bench"}
    growth.add_argument("--rounds", **_NUMBER, **repeated)
    growth.add_argument("--json", **_JSON, **repeated)
    for name in ("weights", "device", "plots"):
        growth.add_argument(f"--{name}", **repeated)
    for name in ("images", "workers", "imgsz"):
        growth.add_argument(f"--{name}", **_NUMBER, **repeated)


def _lab(args: argparse.Namespace) -> int:
    from yolothreads import weights
    from yolothreads.headless import notebooks

    first = notebooks.find(["0"])[0]
    # Jupyter refuses a file that is not within the folder that it is given.
    given = any(word.startswith("--ServerApp.root_dir") for word in args.extra)
    command = [sys.executable, "-m", "jupyterlab", *([] if given else [str(first)]), "--ServerApp.ip=127.0.0.1"]
    page = f"/lab/tree/{first.name}"
    command += [f"--LabApp.default_url={page}", "--Application.log_level=ERROR"]
    # assets/labconfig has our defaults: no question about news, and no search for a newer JupyterLab on the internet.
    folders = filter(None, [str(weights.ASSETS), os.environ.get("JUPYTER_CONFIG_PATH")])
    # A token that Jupyter makes itself is announced in five lines; ours is in the address that is printed below.
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex()
    environment = os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(folders), "JUPYTER_TOKEN": token}
    child = subprocess.Popen([*command, *args.extra], env=environment)
    # A terminal sends Ctrl-C to Jupyter, too, which asks for a confirmation: this process only waits for the answer.
    with ExitStack() as restored:
        restored.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN))
        restored.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: child.terminate()))
        _print_address(child, page)
        return child.wait()


def _print_address(lab: subprocess.Popen[bytes], page: str) -> None:
    """Print the address of a page of JupyterLab once its server has written down where it listens."""
    from jupyter_core.paths import jupyter_runtime_dir

    file = Path(jupyter_runtime_dir()) / f"jpserver-{lab.pid}.json"
    while lab.poll() is None:
        with suppress(OSError, ValueError):  # the file does not exist yet, or half of it is written
            server = json.loads(file.read_text(encoding="utf-8"))
            token = f"?token={server['token']}" if server["token"] else ""
            print(f"JupyterLab: {server['url'].rstrip('/')}{page}{token} (Ctrl-C ends it)", flush=True)
            return
        time.sleep(0.1)


def _run(args: argparse.Namespace) -> int:
    from yolothreads.headless import notebooks, report
    from yolothreads.tables import Table

    if args.quick:
        os.environ["YOLOTHREADS_QUICK"] = "1"
    sources, out = notebooks.find(args.names), Path(args.out)
    if args.report is not None:
        report.make_folder(Path(args.report))
    parameters = {name: _value(name, text) for name, text in args.p}
    with notebooks.Progress(sources, out) as progress:
        pages = args.report is not None
        runs = notebooks.run(sources, parameters, out, args.timeout, progress.cell, progress.done, pages=pages)
    rows = []
    for r in runs:
        verdicts = ", ".join(f"{v.get('claim')} {v.get('word')}" for v in r.verdicts)
        rows.append((r.notebook, f"{r.seconds:.1f}", "ok" if r.ok else "failed", verdicts))
    where = f"The executed notebooks are in {out}."
    if args.report is not None:
        where += f" The report is {report.write(runs, out, Path(args.report))}."
    print(Table(("notebook", "seconds", "ran", "verdicts"), rows, where))
    return 0 if all(r.ok for r in runs) else 1


def _value(name: str, text: str) -> Any:
    """Return a parameter's value: a Python literal (2, 0.5, True, None, [1, 2]) or else the text itself."""
    if name in _PATHS:
        # A notebook runs in its own folder, but the user typed a path relative to the current one.
        path = Path(text).expanduser()
        return str(path.resolve()) if text != _PATHS[name] and path.exists() else text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _doctor(args: argparse.Namespace) -> int:
    from yolothreads.headless import doctor

    table = doctor.checkup()
    print(table)
    return 1 if doctor.problems(table) else 0


def _bench(args: argparse.Namespace) -> int:
    from yolothreads.bench import bench

    if args.quick:
        args.rounds, args.images, args.imgsz = 1, 4, 160
    return _measure(args, bench, "rounds", "images", memory=not args.quick)


def _growth(args: argparse.Namespace) -> int:
    from yolothreads.bench import growth

    return _measure(args, growth, "rounds", "images", "of", "counts", "sizes", "pools", "mapped")


def _measure(args: argparse.Namespace, function: Callable[..., Any], *names: str, **options: Any) -> int:
    """Measure with those of the named arguments that were given, show the result, and draw it if that is wanted."""
    from yolothreads import charts
    from yolothreads.bench import Setting

    setting = Setting(args.weights, args.workers, args.device, args.imgsz, args.batch)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    done = function(setting, **given, **options)
    if args.plots is not None:
        charts.save(done.plots(), args.plots)
    return _show(done, args.json)


def _hazards(args: argparse.Namespace) -> int:
    from yolothreads.hazards import matrix

    return _show(matrix(budget_s=args.budget, progress=lambda line: print(line, file=sys.stderr)), args.json)


def _explore(args: argparse.Namespace) -> int:
    done = exploring.run(args)
    _show(done, args.json)
    if args.page is not None:
        print(f"The page is {done.found.save_page(args.page)}.", file=sys.stderr)
    return done.code


def _show(done: Any, file: str | None) -> int:
    """Print what was measured; as JSON if `file` is "-", and into that file if it is another name."""
    text = json.dumps(done.to_dict(), indent=2)
    print(text if file == "-" else done)
    if file is not None and file != "-":
        with writing(f'"{file}" could not be written', "name another file"):
            Path(file).write_text(text + "\n", encoding="utf-8")
    return 0


def _claims(args: argparse.Namespace) -> int:
    from yolothreads.lessons import CLAIMS
    from yolothreads.tables import Table

    rows = [(c.id, c.says, c.by, ", ".join(c.notebooks)) for c in CLAIMS.values()]
    print(Table(("id", "claim", "made by", "notebook"), rows))
    return 0
