"""The model card: everything about a model that is not weights.

The card is plain JSON. It travels inside an ONNX file (``metadata_props``, key ``lrp_edge``), in the header of
a safetensors checkpoint (same key), and next to formats that can carry neither, as ``<name>.json``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
OK_NAMES = frozenset({"ok", "good", "free", "normal", "no_defect", "mt_free"})


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
                    f"model card: {name} is {getattr(self, name)!r}; expected one of {', '.join(CHANNEL_ORDERS)}"
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
                f"model card: decision threshold is {self.threshold}; expected a number from 0 on, below 1"
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
    profile: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    usable: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise LrpEdgeError(f"model card: classes are {list(self.classes)}; expected two or more different names")
        unknown = [name for name in self.defects if name not in self.classes]
        if unknown:
            raise LrpEdgeError(f"model card: defect {unknown[0]!r} is not among the classes {list(self.classes)}")
        if self.explained not in EXPLAINED and self.explained not in self.classes:
            raise LrpEdgeError(
                f"model card: explained class is {self.explained!r}; expected {', '.join(EXPLAINED)} or one of "
                f"{', '.join(self.classes)}"
            )
        strange = [name for name in self.mask.area_classes if name not in self.defects]
        if strange:
            raise LrpEdgeError(
                f"model card: area class {strange[0]!r} is not among the defects; expected some of "
                f"{', '.join(self.defects)}"
            )
        if self.activation not in ("softmax", "sigmoid"):
            raise LrpEdgeError(f"model card: activation is {self.activation!r}; expected softmax or sigmoid")
        if self.decision is not None and not (self.defects and self.ok_indices):
            raise LrpEdgeError(
                f"model card: the decision has a threshold, and all or none of the classes {', '.join(self.classes)} "
                "are defects; expected some of each"
            )
        if self.relevance_stride < 1:
            raise LrpEdgeError(f"model card: relevance_stride is {self.relevance_stride}; it must be 1 or more")
        if self.precision not in PRECISIONS:
            raise LrpEdgeError(f"model card: precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")

    @property
    def defect_indices(self) -> tuple[int, ...]:
        """Indices of the defect classes."""
        return tuple(self.classes.index(name) for name in self.defects)

    @property
    def ok_indices(self) -> tuple[int, ...]:
        """Indices of all other classes."""
        return tuple(i for i, name in enumerate(self.classes) if name not in self.defects)

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
            If the text is not JSON, is of a newer schema, or misses or misnames a field.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else error
            raise LrpEdgeError(f"{source}: the model card is not JSON ({why}); export the model again") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = "no schema" if not isinstance(data, dict) or "schema" not in data else f"schema {data['schema']!r}"
            raise LrpEdgeError(
                f"{source}: the model card has {found}; this version of lrp-edge reads {SCHEMA}: export again"
            )
        try:
            groups = {
                name: kind(**_fields(kind, data.get(name, {}), name))
                for name, kind in _GROUPS.items()
                if name not in _OPTIONAL or data.get(name) is not None
            }
            return cls(**{**_fields(cls, data), **groups})
        except _Misfit as misfit:
            raise LrpEdgeError(
                f"{source}: the model card does not fit its schema ({misfit}); export the model again"
            ) from misfit


def defect_names(classes: tuple[str, ...], ok_class: str | None = None) -> tuple[str, ...]:
    """Say which classes are defects: all but the OK class, which is given or known by its name.

    Parameters
    ----------
    classes : tuple of str
        Class names.
    ok_class : str, optional
        The OK class; by default any of ``ok, good, free, normal, no_defect, MT_Free``, case ignored.

    Raises
    ------
    LrpEdgeError
        If the OK class is not among the names, or none of them is known to mean OK.
    """
    if ok_class is not None and ok_class not in classes:
        raise LrpEdgeError(f"OK class {ok_class!r} is not among the classes {', '.join(classes)}")
    ok = {ok_class} if ok_class else {name for name in classes if name.lower() in OK_NAMES}
    if not ok:
        raise LrpEdgeError(f"none of the classes {', '.join(classes)} is known to mean OK: name it with --ok-class")
    return tuple(name for name in classes if name not in ok)


class _Misfit(Exception):  # noqa: N818
    """A field is missing, unknown, or not of its type; cpp_demo/src/card_fields.cpp says it in the same words."""


_GROUPS: dict[str, Any] = {"input": InputSpec, "mask": MaskSpec, "decision": DecisionSpec}
#: Groups that may be missing, or null.
_OPTIONAL = ("decision",)
#: What every card must have; what was added later has a default.
_NEEDED = ("classes", "defects", "input", "mask")
#: Of each type of a field, by its annotation: whether a value of JSON is one, and what is expected.
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "text"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "float": (lambda value: _is_number(value), "a number"),
    "float | None": (lambda value: value is None or _is_number(value), "a number or null"),
    "tuple[str, ...]": (lambda value: _is_list(value, str), "a list of texts"),
    "tuple[float, ...]": (lambda value: _is_list(value, int, float), "a list of numbers"),
    "dict[str, float]": (
        lambda value: isinstance(value, dict) and _is_list([*value.values()], int, float),
        "numbers by name",
    ),
    "dict[str, Any]": (lambda value: isinstance(value, dict), "an object"),
    "tuple[int, int] | None": (
        lambda value: value is None or (_is_list(value, int) and len(value) == 2 and min(value) > 0),
        "null or height and width",
    ),
}
_JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kinds) and not isinstance(each, bool) for each in value)


def _fields(kind: Any, data: Any, group: str = "") -> dict[str, Any]:
    """Return the fields of a card, or of a group in it, that JSON says, each checked to be of its type."""
    found: dict[str, Any] = {}
    if not isinstance(data, dict):
        raise _Misfit(f"{group} is {_json_name(data)}; expected an object")
    for name in _NEEDED if not group else ():
        if name not in data:
            raise _Misfit(f"{name!r} is missing")
    declared = {each.name: str(each.type) for each in dataclasses.fields(kind)}
    for name in declared:
        if name not in data or (not group and name in _GROUPS):
            continue
        fits, expected = _TYPES[declared[name]]
        if not fits(data[name]):
            place = f"{group}.{name}" if group else name
            raise _Misfit(f"{place} is {_json_name(data[name])}; expected {expected}")
        found[name] = tuple(data[name]) if isinstance(data[name], list) else data[name]
    if unknown := sorted(data.keys() - declared.keys()):
        raise _Misfit(f"{group or 'the card'} has no field {unknown[0]!r}")
    return found


def _json_name(value: Any) -> str:
    return _JSON_NAMES.get(type(value), "number")
