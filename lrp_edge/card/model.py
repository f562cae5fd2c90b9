"""What a model card says, and what must hold between its fields."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrp_edge.card.schema import Group, Misfit, check, json_name, parse, quoted, quoted_list
from lrp_edge.errors import LrpEdgeError

METADATA_KEY = "lrp_edge"
SCHEMA = 1
CHANNEL_ORDERS = {"BGR": 3, "RGB": 3, "GRAY": 1}
EXPLAINED = ("predicted", "contrast", "defect", "evidence")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
#: What relevance/composites.py and relevance/masks.py make, by name, for help texts, which must not need torch.
COMPOSITES = (
    "Segmentation",
    "Epsilon",
    "AttnLRP",
    "EpsilonPlus",
    "EpsilonPlusFlat",
    "EpsilonAlpha2Beta1",
    "EpsilonAlpha2Beta1Flat",
    "EpsilonGammaBox",
)
MASK_HEADS = ("fixed", "quantile", "mass", "otsu", "li", "isodata", "gmm", "calibrated")
SMOOTHINGS = ("none", "box:K", "gaussian:SIGMA", "median:3", "guided:K")
#: The graph's initializer that holds the threshold of the decision, float32 [].
THRESHOLD = "decision.threshold"

#: ``"min"``, ``"opt"`` and ``"max"``, each [frames, height, width]; or nothing.
Profile = dict[str, Any]


@dataclass(frozen=True)
class InputSpec:
    """The frames that a model takes, and how its network wants them.

    Attributes
    ----------
    order : {"BGR", "RGB", "GRAY"}
        Channel order of the frames; it fixes their number of channels.
    mean, std : tuple of float
        Normalisation ``(pixel / 255 - mean) / std`` by channel of the *network's* input, in its own order.
    size : (height, width) or None
        The frames' size in pixels; None takes any size.
    resize : (height, width) or None
        The size that the network is run at; None runs it at the frames' own size.
    network_order : {"BGR", "RGB", "GRAY"}
        Channel order that the network was trained with.
    max_batch : int
        The most frames in one call.
    standardise : bool
        Normalise each frame to mean 0 and standard deviation 1 after that, so that exposure and contrast do not matter.
    """

    order: str = "BGR"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    size: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    network_order: str = "RGB"
    max_batch: int = 8
    standardise: bool = False

    @property
    def channels(self) -> int:
        """Channels of a frame."""
        return CHANNEL_ORDERS[self.order]

    def __post_init__(self) -> None:
        for name in ("order", "network_order"):
            if getattr(self, name) not in CHANNEL_ORDERS:
                raise LrpEdgeError(
                    f"model card: {name} is {quoted(getattr(self, name))}; expected one of {', '.join(CHANNEL_ORDERS)}"
                )
        expected = CHANNEL_ORDERS[self.network_order]
        if len(self.mean) != expected or len(self.std) != expected:
            raise LrpEdgeError(
                f"model card: mean and std have {len(self.mean)} and {len(self.std)} values; a "
                f"{self.network_order} network needs {expected} of each"
            )
        if self.max_batch < 1:
            raise LrpEdgeError(f"model card: max_batch is {self.max_batch}; it must be 1 or more")


@dataclass(frozen=True)
class MaskSpec:
    """How relevance becomes a binary mask.

    Attributes
    ----------
    method : str
        Name of the mask head, e.g. ``"otsu"`` (see :mod:`lrp_edge.relevance.masks`).
    parameters : dict
        Its parameters; for ``"calibrated"`` the absolute threshold. All take ``floor``, an absolute threshold besides,
        and those of outlines and large areas, see :class:`~lrp_edge.relevance.masks.MaskHead`.
    smoothing : str
        ``"none"``, ``"box:K"``, ``"gaussian:SIGMA"``, ``"median:3"`` or ``"guided:K"``, in pixels.
    close, open : int
        Side of the square of the morphological closing and opening in pixels; 0 leaves it out.
    area_classes : tuple of str
        Defect classes whose defects are large areas: their frames have a mask that is filled.
    found : str
        How the threshold was found, in words.
    """

    method: str = "otsu"
    parameters: dict[str, float] = field(default_factory=dict)
    smoothing: str = "none"
    close: int = 0
    open: int = 0
    area_classes: tuple[str, ...] = ()
    found: str = "per frame, in the graph"


@dataclass(frozen=True)
class DecisionSpec:
    """When a frame is a defect: if its P(defect) exceeds a threshold; see :mod:`lrp_edge.decision`.

    Attributes
    ----------
    threshold : float
        From 0 on, below 1; the graph has it as initializer :data:`THRESHOLD`, in float32.
    images : int
        OK images that it was set on; 0 if it was not calibrated.
    promised : float or None
        Share of OK frames that are false alarms, at most, on average over calibrations with as many images.
    bound : float or None
        What that share is below in nine of ten such calibrations.
    seen : float or None
        Share of the images themselves that exceed the threshold.
    date : str
        When it was set, in UTC.
    found : str
        How it was found, in words.
    """

    threshold: float = 0.5
    images: int = 0
    promised: float | None = None
    bound: float | None = None
    seen: float | None = None
    date: str = ""
    found: str = "not calibrated: a defect is what is more likely one than not"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise LrpEdgeError(
                f"model card: decision threshold is {self.threshold:g}; expected a number from 0 on, below 1"
            )


@dataclass(frozen=True)
class ModelCard:
    """Everything about a model that is not weights.

    Attributes
    ----------
    classes : tuple of str
        Class names in the order of the scores.
    defects : tuple of str
        Those of them that count as defects; a frame classified otherwise gets an empty mask.
    explained : str
        ``"predicted"`` (the decided class), ``"contrast"`` (defect against OK), ``"defect"`` (the strongest one),
        ``"evidence"`` (all defects, by how far each exceeds OK) or a class name.
    activation : {"softmax", "sigmoid"}
        How logits become scores.
    logits : str
        Which of several tensors that the network returns the logits are, by key or place; empty for the only one.
    decision : DecisionSpec, optional
        When a frame is a defect. None is the rule of files without a threshold: the class with the greatest score.
    architecture : dict
        What rebuilds the network from a checkpoint; empty for a network that the user brought.
    input, composite, composite_parameters, mask
        Input contract, relevance composite and its parameters, mask head.
    relevance_stride : int
        Stride in pixels of the network's stage that relevance is read at; 1 reads it at the pixels.
    precision : {"fp32", "fp16", "bf16", "int8"}
        Numeric type of the graph's arithmetic.
    gate : bool
        Whether relevance and mask are computed only in a call with a frame that is classified as a defect; they are
        zero otherwise.
    receptive_field : (height, width), optional
        The window that a unit of the last feature map sees, in pixels of the network's input: where ``input.resize``
        is set, of the resized frame. None where it is not known.
    profile : dict
        Of an engine: ``"min"``, ``"opt"`` and ``"max"``, each ``[frames, height, width]`` in one call.
    engine : dict
        Of an engine: ``product`` (``"rtx"`` or ``"tensorrt"``), its ``version``, ``gpus`` that it was built for,
        ``model`` that it was built from, ``model_sha256`` and ``engine_sha256`` of both files, and ``options`` of
        ``lrp-edge compile`` that build it again.
    provenance : dict
        Where the file comes from: checkpoint sha256, package versions, date.
    parity : dict
        Differences between file and PyTorch measured at export.
    usable : dict
        What was shown of class and mask on images that were not trained on, as
        :meth:`~lrp_edge.usability.Usability.as_dict` has it; ``unusable`` lists what is not better than chance. Empty
        where it was not measured.
    schema : int
        Version of this layout.
    """

    classes: tuple[str, ...]
    defects: tuple[str, ...]
    input: InputSpec = field(default_factory=InputSpec)
    explained: str = "predicted"
    activation: str = "softmax"
    logits: str = ""
    decision: DecisionSpec | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    composite: str = "Segmentation"
    composite_parameters: dict[str, Any] = field(default_factory=dict)
    mask: MaskSpec = field(default_factory=MaskSpec)
    relevance_stride: int = 1
    precision: str = "fp32"
    gate: bool = False
    receptive_field: tuple[int, int] | None = None
    profile: Profile = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    usable: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise LrpEdgeError(
                f"model card: classes are {quoted_list(self.classes)}; expected two or more different names"
            )
        known, defects = frozenset(self.classes), frozenset(self.defects)
        unknown = [name for name in self.defects if name not in known]
        if unknown:
            raise LrpEdgeError(
                f"model card: defect {quoted(unknown[0])} is not among the classes {quoted_list(self.classes)}"
            )
        if self.explained not in EXPLAINED and self.explained not in known:
            raise LrpEdgeError(
                f"model card: explained class is {quoted(self.explained)}; expected {', '.join(EXPLAINED)} or one of "
                f"{', '.join(self.classes)}"
            )
        strange = [name for name in self.mask.area_classes if name not in defects]
        if strange:
            raise LrpEdgeError(
                f"model card: area class {quoted(strange[0])} is not among the defects; expected some of "
                f"{', '.join(self.defects)}"
            )
        if self.activation not in ("softmax", "sigmoid"):
            raise LrpEdgeError(f"model card: activation is {quoted(self.activation)}; expected softmax or sigmoid")
        if self.decision is not None and not (self.defects and self.ok_indices):
            raise LrpEdgeError(
                f"model card: the decision has a threshold, and all or none of the classes {', '.join(self.classes)} "
                "are defects; expected some of each"
            )
        if self.relevance_stride < 1:
            raise LrpEdgeError(f"model card: relevance_stride is {self.relevance_stride}; it must be 1 or more")
        if self.precision not in PRECISIONS:
            raise LrpEdgeError(
                f"model card: precision is {quoted(self.precision)}; expected one of {', '.join(PRECISIONS)}"
            )

    @functools.cached_property
    def defect_indices(self) -> tuple[int, ...]:
        """Indices of the defect classes."""
        index = {name: i for i, name in enumerate(self.classes)}
        return tuple(index[name] for name in self.defects)

    @functools.cached_property
    def ok_indices(self) -> tuple[int, ...]:
        """Indices of all other classes."""
        defects = frozenset(self.defects)
        return tuple(i for i, name in enumerate(self.classes) if name not in defects)

    @property
    def unusable(self) -> tuple[str, ...]:
        """What was not shown to be better than chance; empty if all was, or where it was not measured."""
        listed = self.usable.get("unusable")
        return tuple(map(str, listed)) if isinstance(listed, list) else ()

    def replace(self, **changes: Any) -> ModelCard:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self, indent: int | None = None) -> str:
        """Return the card as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=indent, sort_keys=True)

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Read a card from a file of its own, ``<name>.json``.

        Raises
        ------
        LrpEdgeError
            As :meth:`from_json`; also if the file cannot be read, or is not UTF-8.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise LrpEdgeError(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise LrpEdgeError(f"{path}: the model card is not UTF-8; export the model again") from error
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, source: str = "model card") -> ModelCard:
        """Read a card from JSON text.

        Parameters
        ----------
        text : str
            What :meth:`to_json` wrote.
        source : str
            Where it was found, for the error.

        Raises
        ------
        LrpEdgeError
            If the text is not JSON, is of a newer schema, misses or misnames a field, or one is not of its type; or if
            fields do not fit each other, as the dataclasses have it.
        """
        data = parse(text, source)
        found = (
            "no schema" if not isinstance(data, dict) or "schema" not in data else f"schema {_shown(data['schema'])}"
        )
        if not isinstance(data, dict) or type(data.get("schema")) is not int or data["schema"] != SCHEMA:
            raise LrpEdgeError(
                f"{source}: the model card has {found}; this version of lrp-edge reads {SCHEMA}: export again"
            )
        try:
            check(data, GROUPS)
        except Misfit as misfit:
            raise LrpEdgeError(
                f"{source}: the model card does not fit its schema ({misfit}); export the model again"
            ) from misfit
        groups = {name: kind(**_values(data[name])) for name, kind in _PARTS.items() if data.get(name) is not None}
        return cls(**{**_values(data), **groups})


def _values(data: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    return str(value) if type(value) is int and -(2**63) <= value < 2**64 else json_name(value)


_PARTS: dict[str, Any] = {"input": InputSpec, "mask": MaskSpec, "decision": DecisionSpec}


def _types(kind: Any) -> dict[str, str]:
    return {each.name: str(each.type) for each in dataclasses.fields(kind) if each.name not in (*_PARTS, "schema")}


#: Of all that a card may have: how it is typed. C++ has the same table, which ``make reference`` writes.
GROUPS = (
    Group("", _types(ModelCard), needed=("classes", "defects", "input", "mask"), others=(*_PARTS, "schema")),
    *(Group(name, _types(kind), optional=name == "decision") for name, kind in _PARTS.items()),
    Group(
        "engine",
        {
            **dict.fromkeys(("product", "version", "device", "model", "model_sha256", "engine_sha256"), "str"),
            **dict.fromkeys(("gpus", "options"), "tuple[str, ...]"),
        },
        closed=False,
    ),
    Group("usable", {"unusable": "tuple[str, ...]"}, closed=False),
)
