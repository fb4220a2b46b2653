"""What the images of datasets show, as hashes: to find out whether an image occurs in two places."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_volf.datasets import MANIFEST, PREPROCESSED, RAW, find_dataset
from nnunet_volf.errors import DataError
from nnunet_volf.files import read_json, write_json
from nnunet_volf.machine import usable_cpus
from nnunet_volf.provenance import content_hash
from nnunet_volf.splits import labelled_split

from .imported import described, read_manifest
from .parallel import run_parallel
from .progress import show
from .protected import content_of


@dataclass(frozen=True)
class Occurrences:
    """The hashes of images; what was read is kept in a file, since reading a dataset takes minutes."""

    cache: Path

    def of_labelled(self, dataset: str, cases: Collection[str] | None) -> dict[str, tuple[str | None, ...]] | None:
        """Return the hash of each channel of a dataset's training cases, or None where its images are not at hand."""
        from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

        try:
            folder = find_dataset(dataset, RAW)
        except DataError:
            return None
        found = get_filenames_of_train_images_and_targets(str(folder), described(folder))
        images = {case: [str(path) for path in entry["images"]] for case, entry in found.items()}
        wanted = list(images) if cases is None else sorted(cases)
        missing = [case for case in wanted if case not in images]
        if missing:
            raise DataError(
                f"{len(missing)} cases of {dataset} are preprocessed but not in {folder}, {missing[0]} among them. "
                "Preprocess the dataset again."
            )
        hashes = self._hashes([path for case in wanted for path in images[case]], f"Reading the images of {dataset}")
        return {case: tuple(hashes[path] for path in images[case]) for case in wanted}

    def of_pretraining(self, dataset: str | None, recorded: Mapping[str, object]) -> tuple[set[str] | None, str]:
        """Return the hashes of the images that weights were pretrained on, and in words how they are known."""
        if dataset is None:
            return None, "it does not say what it was pretrained on, so whether test cases were among that is not known"
        try:
            folder = find_dataset(dataset, RAW)
        except DataError:
            return None, f"{dataset}, which it was pretrained on, is not in nnUNet_raw, so it could not be compared"
        if not (folder / MANIFEST).is_file():
            contents = self.of_labelled(dataset, _trained_on(dataset, recorded)) or {}
            known = {content for hashes in contents.values() for content in hashes if content}
            return known, f"compared with the images of {len(contents)} cases of {dataset}"
        entries = list(read_manifest(folder))
        same = content_hash(entry["content"] for entry in entries) == recorded.get("content")
        exact = "exactly what it was pretrained on" if same else "as it is now; some were held out or came later"
        known = {channel["content"] for entry in entries for channel in entry["channels"]}
        return known, f"compared with the {len(entries)} cases of {dataset}, {exact}"

    def _hashes(self, paths: Collection[str], what: str) -> dict[str, str | None]:
        known: dict[str, list[Any]] = read_json(self.cache) if self.cache.is_file() else {}
        states = {path: [(facts := Path(path).stat()).st_size, facts.st_mtime_ns] for path in paths}
        to_do = [path for path in states if known.get(path, [])[:2] != states[path]]
        for done in show(run_parallel(content_of, to_do, workers=usable_cpus().value), len(to_do), what):
            known[done.task] = [*states[done.task], done.result]
        if to_do:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.cache, known)
        return {path: known[path][2] for path in states}


def _trained_on(dataset: str, recorded: Mapping[str, object]) -> list[str] | None:
    """Return the cases of a labelled dataset that a pretraining's fold trains on; None: all of them, or not known."""
    fold = str(recorded.get("fold", ""))
    if not fold.isdigit():
        return None
    try:
        folder = find_dataset(dataset, PREPROCESSED)
    except DataError:
        return None
    ending = described(folder)["file_ending"]
    cases = [path.name.removesuffix(ending) for path in (folder / "gt_segmentations").iterdir()]
    return list(labelled_split(folder, cases, int(fold))["train"])
