"""What the runtime reads of a model's manifest; the rest of the document is for people and for the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = "sibyl/model/1"

APPLICATIONS = (
    *("densenet121", "densenet169", "densenet201", "inception-resnet-v2", "inception-v3", "xception"),
    *(f"convnext-{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
    *(f"efficientnet-b{i}" for i in range(8)),
    *(f"efficientnet-v2-{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l")),
    *("mobilenet", "mobilenet-v2", "mobilenet-v3-large", "mobilenet-v3-small", "nasnet-large", "nasnet-mobile"),
    *("resnet50", "resnet101", "resnet152", "resnet50-v2", "resnet101-v2", "resnet152-v2", "vgg16", "vgg19"),
)
"""The classifiers of keras.applications; ``provider_images/applications/families.csv`` says how each is made."""

INSTANCE_FAMILIES = ("mask-rcnn-small", "mask-rcnn-coco")
"""Families that find objects and their pixels; all others built in are classifiers."""

FAMILIES: Mapping[str, str] = {
    "mnist": "provider_images.mnist",
    "vit-b16": "provider_images.vit",
    **dict.fromkeys(INSTANCE_FAMILIES, "provider_images.mask_rcnn"),
    **dict.fromkeys(APPLICATIONS, "provider_images.applications"),
}
"""Packages of the architectures built in, by name. A manifest chooses one and can never name a module of its own.

Of a classifier, ``model.build()`` is the reference, a ``keras.Model``, and takes the family's name where a package
holds several; ``model.load_tensors`` fills it from safetensors, where there is one; ``forward``, where there is one, is
the same in plain numpy. Of an instance family, ``serve.load_keras`` and ``serve.load_numpy`` give a whole
``model.Segmenter`` for a manifest and its file of weights.
"""

FILES: Mapping[str, str] = {"keras-file": "keras", "tflite-file": "tflite"}
"""Families whose architecture is in the weights' file: anyone's own model. Each has an engine and a format so named."""

FORMATS = ("npz-float16", "hdf5", "safetensors", *FILES.values())
"""What a weights file may be; a manifest that names none means the first."""

RESIZES = ("bilinear", "bicubic", "lanczos", "box", "nearest")
FITS = ("stretch", "crop", "digit", "whole")
CLASSIFICATION, INSTANCES, SEMANTIC = TASKS = ("classification", "instance-segmentation", "semantic-segmentation")
MODES = ("range", "tf", "torch", "caffe")
VALUES = ("probabilities", "logits", "classes")


class SpecError(ValueError):
    """The manifest asks for something this runtime does not know; the message names the field."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a picture becomes an array of (height, width, channels).

    ``fit`` is "stretch" (resize), "crop" (the largest part in the middle with the model's proportions, ``crop`` times
    as long and wide, resized), "digit" (centre within ``box`` pixels by MNIST's convention) or "whole" (the family
    scales and pads the picture itself, to ``height`` x ``width`` pixels at most). ``mode`` is "range" (``range`` is
    where 0 and 255 end up) or one of keras.applications': "tf" (-1 to 1), "torch" (0 to 1, then by ImageNet's mean and
    deviation) or "caffe" (ImageNet's mean alone). ``order`` is of the channels, "rgb" or "bgr".
    """

    height: int
    width: int
    channels: int
    color: str
    fit: str
    box: int
    range: tuple[float, float]
    mode: str = "range"
    order: str = "rgb"
    resize: str = "bilinear"
    crop: float = 1.0

    @classmethod
    def from_manifest(cls, declared: Mapping[str, Any]) -> InputSpec:
        """Read a manifest's ``input``. Raises SpecError, KeyError, TypeError or ValueError."""
        mode = _choice(declared, "mode", MODES)
        low, high = declared["range"] if mode == "range" else (0, 255)
        return cls(
            height=declared["height"],
            width=declared["width"],
            channels=declared["channels"],
            color=declared["color"],
            fit=_choice(declared, "fit", FITS),
            box=declared.get("box", 0),
            range=(float(low), float(high)),
            mode=mode,
            order=_choice(declared, "order", ("rgb", "bgr")),
            resize=_choice(declared, "resize", RESIZES),
            crop=float(declared.get("crop", 1.0)),
        )


@dataclass(frozen=True, eq=False, slots=True)
class Declared:
    """A part of a manifest as it stands, equal to itself alone, so that what is made of it can be kept."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The part of a manifest that running it needs."""

    engine: str
    family: str
    weights_sha256: str
    classes: int
    top_k: int
    input: InputSpec
    task: str = CLASSIFICATION
    weights_format: str = FORMATS[0]
    values: str = VALUES[0]
    shape: tuple[int, ...] = ()  # of the output, without the batch; an own file must have it, of others it is not read
    background: int | None = None  # the class of a semantic segmentation that stands for nothing
    least: float = 0.0  # score of an instance that is reported
    familiarity: Declared | None = None

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> ModelSpec:
        """Read a manifest. Raises SpecError when a field is missing or unknown here."""
        try:
            if manifest["schema"] != SCHEMA:
                raise SpecError(f"schema: {SCHEMA} expected, not {manifest['schema']!r}")
            family = manifest["family"]
            if family not in FAMILIES and family not in FILES:
                known = ", ".join(sorted([*FAMILIES, *FILES]))
                raise SpecError(f"family: {family!r} is not built in ({known})")
            if family in FILES and not FILES[family] == manifest["engine"] == manifest["weights"].get("format"):
                raise SpecError(f"family: {family!r} needs {FILES[family]!r} as its engine and its weights.format")
            task = _choice(manifest, "task", TASKS)
            values = _choice(manifest["output"], "values", VALUES)
            classes = len(manifest["labels"])
            shape = tuple(manifest["output"].get("shape", ()))
            if family in FILES and not shape:
                raise SpecError("output.shape: an own file must state it")
            declared = InputSpec.from_manifest(manifest["input"])
            _check_task(task, family, declared.fit)
            _check_values(task, values, shape, classes)
            return cls(
                engine=manifest["engine"],
                family=family,
                weights_sha256=manifest["weights"]["sha256"],
                classes=classes,
                top_k=manifest["output"]["top_k"],
                input=declared,
                task=task,
                weights_format=_choice(manifest["weights"], "format", FORMATS),
                values=values,
                shape=shape,
                background=manifest["output"].get("background"),
                least=float(manifest.get("comparison", {}).get("score", 0)),
                familiarity=Declared(manifest["familiarity"]) if "familiarity" in manifest else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"the manifest is incomplete: {type(error).__name__}: {error}") from error


def _check_task(task: str, family: str, fit: str) -> None:
    """Hold a task against what the family does, and against how pictures are brought to it. Raises SpecError."""
    able = (CLASSIFICATION, SEMANTIC) if family in FILES else (CLASSIFICATION,)
    if family in INSTANCE_FAMILIES:
        able = (INSTANCES,)
    if task not in able:
        raise SpecError(f"task: {' or '.join(able)} expected for the family {family!r}, not {task}")
    fits = {INSTANCES: ("whole",), SEMANTIC: ("stretch",)}.get(task, ("stretch", "crop", "digit"))
    if fit not in fits:
        why = "; a pixel could not be found again in the picture" if task == SEMANTIC else ""
        raise SpecError(f"input.fit: {' or '.join(fits)} expected for {task}, not {fit}{why}")


def _check_values(task: str, values: str, shape: tuple[int, ...], classes: int) -> None:
    """Hold the output's declared shape against the task and the labels. Raises SpecError."""
    if task != SEMANTIC and values == "classes":
        raise SpecError(f"output.values: classes are for {SEMANTIC} alone")
    if not shape:
        return
    fits, expected = False, "none"
    if task == CLASSIFICATION:
        fits, expected = shape == (classes,), f"[{classes}]"
    elif task == SEMANTIC and values == "classes":
        fits, expected = len(shape) == 2 and min(shape) > 0, "[height, width]"
    elif task == SEMANTIC:
        fits = len(shape) == 3 and min(shape) > 0 and shape[2] == classes
        expected = f"[height, width, {classes}]"
    if not fits:
        raise SpecError(f"output.shape: {expected} expected for {task}, not {list(shape)}")


def _choice(body: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = body.get(key, known[0])
    if value not in known:
        raise SpecError(f"{key}: one of {', '.join(known)} expected, not {value!r}")
    return str(value)
