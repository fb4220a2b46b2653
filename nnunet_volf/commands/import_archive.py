"""``nnunet-volf import``: an archive of scans becomes a raw nnU-Net dataset, without labels and without copies."""

from __future__ import annotations

import argparse
from typing import Any

from nnunet_volf.commands import options

NAME = "import"
HELP = "Check an archive of scans (folder, glob, table, DICOM) and make it a raw nnU-Net dataset without labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    options.add_source(parser)
    options.add_target(parser)
    options.add_workers(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what was found; look into nothing, write nothing")


def run(args: argparse.Namespace) -> int:
    """Import, and report on the screen and on a page."""
    from nnunet_volf.preprocessing.asking import import_request
    from nnunet_volf.preprocessing.reporting import describe_found
    from nnunet_volf.preprocessing.sources import find

    found = find(args.source)
    request = import_request(args, found)
    print(describe_found(found, request))
    if not args.dry_run:
        print(f"next: {import_and_report(request, found, args.target)}")
    return 0


def import_and_report(request: Any, found: Any, target: str | None) -> str:
    """Import what was found, write the page and print the table; return the next command."""
    from nnunet_volf.preprocessing.archive import import_archive
    from nnunet_volf.preprocessing.reporting import report

    like = f" --for {target}" if target else ""
    command = f"nnunet-volf plan -d {request.number}{like}"
    print(report(import_archive(request, found), request, command))
    return command
