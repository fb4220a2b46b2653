"""The pretext tasks that can be asked for by name, as data; loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnunet_volf.errors import SettingsError

if TYPE_CHECKING:
    from nnunet_volf.pretext.pretext import Pretext
    from nnunet_volf.pretext.settings import PretrainingSettings


@dataclass(frozen=True)
class Method:
    """One pretext task: its names, where its code is, and which parts of a network it trains."""

    name: str  # on the command line, and as an arm of a benchmark
    title: str  # in text
    label: str  # what checkpoints call it
    trainer: str
    pretext: str  # module:class
    settings: str  # module:class
    transfers: tuple[str, ...]  # parts of the U-Net that its training reaches
    crops: int = 1  # of cases, in a sample

    @property
    def plans_key(self) -> str:
        """Where a configuration in a plans file keeps the settings."""
        return "volf" if self.name == "volf" else f"volf_{self.name}"

    @property
    def whole_network(self) -> bool:
        """Whether encoder and decoder are trained."""
        return "decoder" in self.transfers


ENCODER, WHOLE = ("encoder",), ("encoder", "decoder")

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="volf",
            title="Volume Fusion",
            label="volume fusion",
            trainer="nnUNetTrainerVolF",
            pretext="nnunet_volf.pretext.volf.pretext:VolumeFusion",
            settings="nnunet_volf.pretext.volf.settings:VolFSettings",
            transfers=WHOLE,
            crops=2,
        ),
        Method(
            name="mae",
            title="masked reconstruction (MAE)",
            label="masked reconstruction",
            trainer="nnUNetTrainerMAE",
            pretext="nnunet_volf.pretext.mae.pretext:MaskedReconstruction",
            settings="nnunet_volf.pretext.mae.settings:MAESettings",
            transfers=WHOLE,
        ),
        Method(
            name="voco",
            title="Volume Contrast (VoCo)",
            label="volume contrast",
            trainer="nnUNetTrainerVoCo",
            pretext="nnunet_volf.pretext.voco.pretext:VolumeContrast",
            settings="nnunet_volf.pretext.voco.settings:VoCoSettings",
            transfers=ENCODER,
        ),
        Method(
            name="slem",
            title="SLeM",
            label="SLeM",
            trainer="nnUNetTrainerSLeM",
            pretext="nnunet_volf.pretext.slem.pretext:Recombination",
            settings="nnunet_volf.pretext.slem.settings:SLeMSettings",
            transfers=ENCODER,
        ),
    )
}

DEFAULT_METHOD = "volf"


def method_labelled(label: str | None) -> Method | None:
    """Return the method that a checkpoint names, if it is one of these."""
    return next((method for method in METHODS.values() if method.label == label), None)


def load_settings(method: Method) -> type[PretrainingSettings]:
    """Return the class of a method's settings."""
    found: type[PretrainingSettings] = _load(method.settings)
    return found


def load_pretext(method: Method) -> type[Pretext]:
    """Return the class of a method; imports torch."""
    found: type[Pretext] = _load(method.pretext)
    return found


def method_of(settings: PretrainingSettings) -> Method:
    """Return the method that settings are for."""
    kind = type(settings)
    found = (m for m in METHODS.values() if m.settings == f"{kind.__module__}:{kind.__name__}")
    method = next(found, None)
    if method is None:
        raise SettingsError(
            f"{kind.__name__} are the settings of no pretext task in pretext/catalogue.py. Add it there."
        )
    return method


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
