"""One object from photo to network input, with the same bits in training and in production."""

from __future__ import annotations

import hashlib
import json
import numbers
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from learned_downscale import pretrained
from learned_downscale.core.resampling import Array
from learned_downscale.pixels import is_tensor
from learned_downscale.resizer import DEFAULT_WEIGHTS

JSON, ONNX = "preprocess.json", "preprocess.onnx"
VERSION = 1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Preprocess:
    """Resize (learned), centre crop and normalisation.

        preprocess = Preprocess(256, crop=224)
        x = preprocess(Image.open("photo.jpg"))  # (3, 224, 224), float32
        preprocess.save("preprocess")  # preprocess.json, preprocess.onnx

    One ONNX model computes it, whatever the kind of image, and that is what is saved: whoever runs
    preprocess.onnx in ONNX Runtime, in any language, gets the same bits. Its thumbnails are those
    of `resize(image, size, backend="onnx", exact=True)`: all of them where the sizes are multiples,
    else but for about one pixel in 5,000, by a level (more with a payload).

    Args:
        size: (width, height) of the resized image; or one number, of its shorter side (the other
            one is rounded down, as in torchvision).
        crop: (width, height), or one number, of the middle that is kept; default: all.
        mean, std: of the channels R, G, B in [0, 1]: (x - mean) / std.
        weights: as for `resize`, by name or folder. Default: x4 or x2, as it fits; where none fits,
            bicubic.

    Picklable. Needs the extra `onnx`.

    Raises:
        TypeError, ValueError: sizes that are no positive whole numbers, a crop larger than the
            size, not three means, or deviations of 0.
        ImportError: onnx or onnxruntime is not installed.

    Source: ours.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        crop: int | tuple[int, int] | None = None,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        weights: str | Path | None = None,
    ) -> None:
        self.size = size if isinstance(size, int) and not isinstance(size, bool) else _pair(size)
        if isinstance(self.size, int):
            _pair((self.size, self.size))
        self.crop = None if crop is None else _pair((crop, crop) if isinstance(crop, int) else crop)
        least = (self.size, self.size) if isinstance(self.size, int) else self.size
        if self.crop and any(c > s for c, s in zip(self.crop, least, strict=True)):
            raise ValueError(f"crop is {self.crop}, larger than size, {size}; give a smaller one")
        self.mean, self.std = _three("mean", mean), _three("std", std)
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}; deviations are above 0")
        self.weights = None if weights is None else str(weights)
        names = DEFAULT_WEIGHTS.values() if weights is None else [self.weights]
        self._hashes = {str(n): str(pretrained.read_config(str(n))["sha256"]) for n in names}
        self._content: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_session"}

    def __repr__(self) -> str:
        return (
            f"Preprocess({self.size}, crop={self.crop}, mean={self.mean}, std={self.std}, "
            f"weights={self.weights!r})"
        )

    @property
    def content(self) -> bytes:
        """preprocess.onnx: "image", uint8 (N, H, W, 3), RGB, of any size -> "pixel_values", float32
        (N, 3, h, w)."""
        if self._content is None:
            from learned_downscale.core.downscaler import Downscaler
            from learned_downscale.engine.pipeline_graph import make_graph

            try:
                models = [Downscaler.from_pretrained(name) for name in self._hashes]
                by_factor = {model.factor: model for model in models}
                self._content = make_graph(by_factor, self.size, self.crop, self.table)
            except ImportError as error:
                raise ImportError(
                    "Preprocess needs onnx and onnxruntime: pip install 'learned-downscale[onnx]'"
                ) from error
        return self._content

    @property
    def table(self) -> Array:
        """(3, 256), float32: the value of each level of each channel."""
        levels = np.arange(256) / 255
        mean, std = np.array(self.mean)[:, None], np.array(self.std)[:, None]
        return ((levels - mean) / std).astype(np.float32)

    @cached_property
    def _session(self) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "Preprocess needs onnxruntime: pip install 'learned-downscale[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(self.content, options, providers=providers)

    def __call__(self, image: Any) -> Any:
        """(3, h, w), float32, of an image; (N, 3, h, w) of a batch.

        Args:
            image: a PIL image (grey, palettes and bits become RGB); a numpy array, uint8 (H, W),
                (H, W, 1), (H, W, 3) or (N, H, W, 3); a torch tensor, uint8 (C, H, W) or
                (N, C, H, W), C 1 or 3, which gives a tensor on its device; else an array.

        Raises:
            TypeError: another kind, or not 8 bits.
            ValueError: transparency, another number of channels, an empty image.
        """
        tensor = is_tensor(image)
        if isinstance(image, Image.Image):
            array = _rgb(image)[None]
        elif tensor:
            batch = image if image.ndim == 4 else image[None]
            array = batch.detach().cpu().permute(0, 2, 3, 1).numpy()
        elif isinstance(image, np.ndarray):
            array = image[..., None] if image.ndim == 2 else image
            array = array if image.ndim == 4 else array[None]
        else:
            raise TypeError(
                f"image is a {type(image).__name__}; expected a PIL image, numpy array or tensor"
            )
        if array.dtype != np.uint8:
            raise TypeError(f"the image is {array.dtype}; Preprocess takes 8 bits (uint8)")
        if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
            raise ValueError(
                f"the image has the shape {tuple(image.shape)}; expected RGB or grey, not empty, "
                "channels last for arrays, first for tensors; lay transparency over a colour first"
            )
        if array.shape[-1] == 1:
            array = array.repeat(3, -1)
        self._check_fits(array.shape[2], array.shape[1])
        out = self._session.run(None, {"image": np.ascontiguousarray(array)})[0]
        single = isinstance(image, Image.Image) or image.ndim < 4
        out = out[0] if single else out
        if not tensor:
            return out
        import torch

        return torch.from_numpy(out).to(image.device)

    def _check_fits(self, width: int, height: int) -> None:
        """Weights that were asked for are never left out silently."""
        if self.weights is None:
            return
        if isinstance(self.size, int):
            shorter = min(width, height)
            target = self.size * width // shorter, self.size * height // shorter
        else:
            target = self.size
        factor = pretrained.read_config(self.weights)["downscaler"]["factor"]
        if target != (width, height) and (
            target[0] > -(-width // factor) or target[1] > -(-height // factor)
        ):
            raise ValueError(
                f"the weights {self.weights} divide by {factor}, but {width} x {height} to "
                f"{target[0]} x {target[1]} is less; give a larger image, or no weights"
            )

    def save(self, folder: str | Path) -> None:
        """Write preprocess.json and preprocess.onnx into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ONNX).write_bytes(self.content)
        settings = {
            "version": VERSION,
            "size": self.size,
            "crop": self.crop,
            "mean": self.mean,
            "std": self.std,
            "weights": self.weights,
            "weights_sha256": self._hashes,
            "onnx_sha256": hashlib.sha256(self.content).hexdigest(),
        }
        (folder / JSON).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Preprocess:
        """What `save` wrote. It computes with the saved preprocess.onnx, whatever weights are
        installed.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: preprocess.json is of another version or damaged, or preprocess.onnx is not
                the file that was saved.
        """
        folder = Path(folder)
        content = (folder / ONNX).read_bytes()
        try:
            settings = json.loads((folder / JSON).read_text(encoding="utf-8"))
            version, digest = settings["version"], settings["onnx_sha256"]
            pairs: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
            }
            if version == VERSION:
                keys = ("size", "crop", "mean", "std", "weights")
                made = cls(**{key: pairs[key] for key in keys})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{folder / JSON} is damaged ({error}); save it again") from error
        if version != VERSION:
            raise ValueError(f"{folder / JSON} has version {version}, this package reads {VERSION}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{folder / ONNX} is not the file that was saved with {JSON}")
        made._content, made._hashes = content, settings["weights_sha256"]
        return made


def _pair(size: Any) -> tuple[int, int]:
    try:
        sides = tuple(size)
    except TypeError:
        sides = ()
    whole = all(isinstance(s, numbers.Integral) and not isinstance(s, bool) for s in sides)
    if len(sides) != 2 or not whole:
        raise TypeError(f"{size!r} is no size; expected a whole number, or (width, height)")
    if min(sides) < 1:
        raise ValueError(f"size is {size}; both sides must be at least 1 pixel")
    return int(sides[0]), int(sides[1])


def _three(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ValueError(f"{name} is {values}; give three numbers, for R, G and B")
    red, green, blue = map(float, values)
    return red, green, blue


def _rgb(image: Image.Image) -> Array:
    if image.has_transparency_data and image.mode not in ("RGB", "L"):
        raise ValueError(f"the image is {image.mode} with transparency; lay it over a colour first")
    if image.mode not in ("1", "L", "P", "RGB"):
        raise ValueError(f"the image is {image.mode}; convert it to RGB first")
    return np.asarray(image.convert("RGB"))
