"""The command line, ``nnunet-volf``: finds the command, runs it, and turns known errors into one message."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import nnunet_volf
from nnunet_volf import commands
from nnunet_volf.errors import VolFError
from nnunet_volf.printable import printable
from nnunet_volf.storage_errors import storage_error

# What a shell reports for a program ended by Ctrl-C, and for one whose reader went away.
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nnunet-volf`` with these arguments, or with those of the process, and return its exit code."""
    try:
        args = parser().parse_args(argv)
        code: int = args.run(args)
        sys.stdout.flush()
    except VolFError as error:
        print(f"nnunet-volf: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        told = storage_error(error)
        if told is None:
            raise
        print(f"nnunet-volf: {told}", file=sys.stderr)
        return 2
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; the command reference and the tests of the pages read it, too."""
    top = argparse.ArgumentParser(prog="nnunet-volf", description="Volume Fusion pretraining for nnU-Net.")
    top.add_argument("--version", action="version", version=f"nnunet-volf {nnunet_volf.__version__}")
    commands.declare(top, commands.__name__, commands.COMMANDS, title="commands", metavar="COMMAND")
    return top
