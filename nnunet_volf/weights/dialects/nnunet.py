"""nnU-Net's checkpoints, and ours, which are nnU-Net's with a key more."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_volf.durable import STATE_KEY
from nnunet_volf.errors import WeightsError
from nnunet_volf.files import read_json
from nnunet_volf.weights.dialects.sound import sound_architecture, sound_preparation
from nnunet_volf.weights.dialects.tensors import tensors_of
from nnunet_volf.weights.dialects.values import mapping, plain_only, text, texts, whole
from nnunet_volf.weights.pretrained import Architecture, Preparation, Pretrained
from nnunet_volf.weights.reading import Opened
from nnunet_volf.weights.record import RECORD_KEY, with_record
from nnunet_volf.weights.target import architecture_of, preparation_of
from nnunet_volf.weights.trained import parts_in


def recognises(content: Any) -> bool:
    """Say whether a file has nnU-Net's layout."""
    return isinstance(content, Mapping) and isinstance(content.get("network_weights"), Mapping)


def recognises_ours(content: Any) -> bool:
    """Say whether a file is one of ours, whatever else it holds: an export for nnssl looks like nnssl's, too."""
    return recognises(content) and isinstance(content.get(STATE_KEY), Mapping)


def read(opened: Opened) -> Pretrained:
    """Read a checkpoint with what it says about its training."""
    content = opened.content
    tensors, notes = tensors_of(opened.path, content["network_weights"])
    ours = mapping(content.get(STATE_KEY))
    init = mapping(content.get("init_args"))
    if not init:
        init, beside = _files_beside(opened.path)
        notes = (*notes, *beside)
    plans, configuration = mapping(init.get("plans")), text(init.get("configuration"))
    preparation, architecture, problem = understand(plans, configuration, mapping(init.get("dataset_json")))
    pretrained = Pretrained(
        path=opened.path,
        kind="nnunet-volf" if ours else "nnU-Net",
        opened=opened.how,
        tensors=tensors,
        trainer=text(content.get("trainer_name")),
        method=text(ours.get("method")),
        trained=parts_in(texts(ours.get("transfers"))),
        settings=plain_only(mapping(ours.get("settings"))),
        dataset=text(plans.get("dataset_name")),
        configuration=configuration,
        epochs=whole(content.get("current_epoch")),
        preparation=preparation,
        architecture=architecture,
        plans=plans or None,
        data=plain_only(mapping(ours.get("data"))),
        versions=plain_only(mapping(ours.get("versions"))),
        started_from=plain_only(mapping(ours.get("started_from"))),
        citations=texts(ours.get("citations")),
        notes=(*notes, *problem),
    )
    record = mapping(ours.get(RECORD_KEY))
    return _recorded(pretrained, record) if record else pretrained


def _recorded(pretrained: Pretrained, record: Mapping[str, Any]) -> Pretrained:
    """Put what a file of ours says of the pretraining in the place of what its plans say."""
    try:
        known = with_record(pretrained, record)
        return replace(
            known,
            kind=text(known.kind) or pretrained.kind,
            trainer=text(known.trainer),
            dataset=text(known.dataset),
            configuration=text(known.configuration),
            epochs=whole(known.epochs),
            preparation=known.preparation and sound_preparation(known.preparation),
            architecture=known.architecture and sound_architecture(known.architecture),
            notes=texts(known.notes),
        )
    except Exception as error:
        note = f"The file's record of its pretraining was not understood ({type(error).__name__}: {error})."
        return replace(pretrained, notes=(*pretrained.notes, note))


def understand(
    plans: Mapping[str, Any], configuration: Any, dataset_json: Mapping[str, Any]
) -> tuple[Preparation | None, Architecture | None, tuple[str, ...]]:
    """Return preparation and network as plans describe them, and a note where they cannot be understood."""
    if not plans or not configuration:
        return None, None, ("The file does not hold the plans that it was trained with.",)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # plans from before nnU-Net 2.4 are converted, with a warning
            manager = PlansManager(copy.deepcopy(dict(plans))).get_configuration(configuration)
        resolved = manager.configuration
        preparation = sound_preparation(preparation_of(plans, resolved, dataset_json))
        return preparation, sound_architecture(architecture_of(resolved)), ()
    except Exception as error:  # anything may stand in a stranger's plans; the weights are usable without
        return None, None, (f"The plans in the file were not understood ({type(error).__name__}: {error}).",)


def _files_beside(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the plans that nnU-Net writes beside the folds of a training; the folder is named after them."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "plans.json").is_file():
            found: dict[str, Any] = {
                "plans": _json(folder / "plans.json"),
                "configuration": folder.name.split("__")[-1],
            }
            if (folder / "dataset.json").is_file():
                found["dataset_json"] = _json(folder / "dataset.json")
            return found, (f"The plans were read from {folder / 'plans.json'}; the file itself holds none.",)
    return {}, ()


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON ({error}). Repair it or move it away.") from error
