"""Arguments that several commands have in common, so that they mean the same everywhere."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from nnunet_volf import plans
from nnunet_volf.errors import VolFError
from nnunet_volf.networks.catalogue import NETWORKS
from nnunet_volf.pretext.catalogue import DEFAULT_METHOD, METHODS, Method
from nnunet_volf.weights.choices import CHANNEL_RULES, SCOPES

if TYPE_CHECKING:
    from nnunet_volf.cluster.connecting import Cluster


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare the dataset that the weights are for."""
    parser.add_argument(
        "--for", dest="target", metavar="DATASET", help="the labelled dataset that the weights are for, for example 4"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Declare the number of worker processes."""
    parser.add_argument(
        "-np", type=int, metavar="N", help="worker processes [as many as there are CPUs and memory for]"
    )


def add_dask(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare a Dask cluster to do something on."""
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help=f"{what} on the workers of a Dask cluster: its address, its scheduler's file, or 'local' for one here",
    )


def cluster_asked(args: argparse.Namespace, workers: int) -> contextlib.AbstractContextManager[Cluster | None]:
    """Give the Dask cluster that was asked for, if one was; one here has that many workers."""
    from nnunet_volf.cluster.connecting import connected

    return contextlib.nullcontext() if args.dask is None else connected(args.dask, workers)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare what is trained on."""
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), help="[cuda where there is a GPU]")


def device_here(asked: str | None) -> str:
    """Return the device that was asked for, which must be there, or the best that is."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked is None:
        return next(device for device, is_there in there.items() if is_there)
    if not there[asked]:
        usable = " or ".join(device for device, is_there in there.items() if is_there)
        raise VolFError(f"-device {asked}: torch finds no such device here. There is {usable}.")
    return asked


def add_plans(parser: argparse.ArgumentParser) -> None:
    """Declare which plans of a dataset are meant."""
    parser.add_argument("-p", default=plans.DEFAULT_PLANS, metavar="PLANS", help="[%(default)s]")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="[%(default)s]")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Declare what is imported, and what is done where opinions differ."""
    parser.add_argument(
        "source", help="folder, 'glob', CSV or JSON table with a column 'path', or an nnU-Net raw dataset"
    )
    parser.add_argument("-d", type=int, metavar="NUMBER", help="number of the new dataset [the first free from 501 on]")
    parser.add_argument("-n", metavar="NAME", help="name of the new dataset [Archive]")
    parser.add_argument(
        "--channels",
        nargs="+",
        default=[],
        metavar="NAME[=PATTERN]",
        help="CT, or T1=*_t1.nii.gz T2=*_t2.nii.gz [the source's or the target's; else one, named 'image']",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="DATASET",
        help="raw datasets whose images must not be pretrained on; the one named by --for is always among them",
    )
    parser.add_argument(
        "--keep-known", action="store_true", help="take images that occur in those datasets all the same"
    )
    parser.add_argument(
        "--grids", choices=("refuse", "resample"), default="refuse", help="channels on different grids [%(default)s]"
    )
    parser.add_argument(
        "--time", choices=("refuse", "first", "mean"), default="refuse", help="images with a fourth axis [%(default)s]"
    )
    parser.add_argument(
        "--geometry",
        choices=("refuse", "resample"),
        default="refuse",
        help="DICOM series with missing, uneven or tilted slices [%(default)s]",
    )
    parser.add_argument("--least-slices", type=int, default=5, metavar="N", help="of a DICOM series [%(default)s]")
    parser.add_argument("--derived", action="store_true", help="take derived DICOM series too (reformats, projections)")
    parser.add_argument(
        "--most-refused", type=float, default=0.5, metavar="SHARE", help="stop above this share [%(default)s]"
    )
    parser.add_argument("--retry", action="store_true", help="look again at what was refused before")


def add_planning(parser: argparse.ArgumentParser) -> None:
    """Declare what plans are made from and what they are called."""
    parser.add_argument(
        "--architecture",
        choices=sorted(NETWORKS),
        help="the network to plan with; with --for, that dataset gets plans with it where it has none "
        "[nnU-Net's own, or what the plans of --for have]",
    )
    parser.add_argument(
        "--context-block",
        action="store_true",
        help="plan the network with a context block between encoder and decoder",
    )
    parser.add_argument(
        "-p",
        metavar="PLANS",
        help=f"with --for: that dataset's plans [{plans.DEFAULT_PLANS}, or those with the --architecture]",
    )
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="[%(default)s]")
    parser.add_argument(
        "-pl",
        default="ExperimentPlanner",
        metavar="PLANNER",
        help="where plans are made: one of nnU-Net's planners, for example nnUNetPlannerResEncL [%(default)s]",
    )
    parser.add_argument(
        "-gpu_memory_target",
        type=float,
        metavar="GB",
        help="where plans are made: memory of a GPU to plan for [the planner's]",
    )
    parser.add_argument(
        "--spacing",
        nargs=3,
        type=float,
        metavar="MM",
        help="without --for: spacing to resample to, as z y x [the median]",
    )
    parser.add_argument(
        "--sample", type=int, default=300, metavar="N", help="without --for: cases to read [%(default)s]"
    )
    parser.add_argument(
        "--as",
        dest="name",
        metavar="PLANS",
        help=f"plans to write [{plans.OUR_PLANS}; for a labelled dataset by planner and network: nnUNetPCTNetPlans]",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="pretraining settings")
    add_pretext(parser)
    parser.add_argument("--preset", metavar="NAME", help="the numbers of a publication, for example reference-2025")


def add_pretext(parser: argparse.ArgumentParser) -> None:
    """Declare what is learnt where there are no labels."""
    parser.add_argument(
        "--pretext",
        choices=tuple(METHODS),
        default=DEFAULT_METHOD,
        help="; ".join(f"{name}: {method.title}" for name, method in METHODS.items()) + " [%(default)s]",
    )


def method_asked(args: argparse.Namespace) -> Method:
    """Return the pretext task that was asked for."""
    return METHODS[args.pretext]


def add_task(parser: argparse.ArgumentParser) -> None:
    """Declare the task that weights are fitted to, and how."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="the labelled dataset, planned, for example 4")
    add_plans(parser)
    parser.add_argument("--scope", choices=SCOPES, default="all", help="what is taken over [%(default)s]")
    parser.add_argument(
        "--channels",
        choices=CHANNEL_RULES,
        default="name",
        help="other input channels: those of one name belong together, or each sees the mean of all [%(default)s]",
    )
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare that a file may be opened as Python opens it."""
    parser.add_argument(
        "--trust", action="store_true", help="run code that the file asks for; only for files of your own"
    )


def add_resolution_mode(parser: argparse.ArgumentParser) -> None:
    """Declare which of the networks in a published file of PCT-Net is meant."""
    parser.add_argument(
        "--resolution-mode",
        type=int,
        choices=(0, 1, 2),
        help="of the published PCT-Net: for isotropic, mildly or strongly anisotropic images [the trained one]",
    )
