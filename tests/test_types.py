"""The kind of image that goes in comes out, for type checkers, too: `mypy` reads this file."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from learned_downscale import Plan, Resizer, resize

Array = np.ndarray[Any, Any]


def test_resize_keeps_the_kind() -> None:
    photo, array = Image.new("RGB", (8, 8)), np.zeros((8, 8, 3), np.uint8)
    tensor = torch.zeros(3, 8, 8)
    assert_type(resize(photo, 4), Image.Image)
    assert_type(resize(array, 4), Array)
    assert_type(resize(tensor, (2, 2), weights="x4"), Tensor)
    assert_type(resize([photo, photo], 4), list[Image.Image])
    assert_type(resize(photo, 4, return_plan=True), tuple[Image.Image, Plan])
    assert_type(resize([tensor], 4, return_plan=True), tuple[list[Tensor], list[Plan]])
    assert isinstance(resize(array, 4, return_plan=True)[1], Plan)


def test_a_resizer_keeps_the_kind() -> None:
    resizer = Resizer(4)
    assert_type(resizer(Image.new("RGB", (8, 8))), Image.Image)
    assert_type(resizer(torch.zeros(3, 8, 8)), Tensor)
    assert_type(resizer([np.zeros((8, 8), np.uint8)]), list[Array])
    assert resizer([]) == []
