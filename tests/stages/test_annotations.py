"""Annotations of other tools through `encode`: golden masks of the tools themselves, round trips, names, faults.

The golden run lengths were drawn once by the tools: labelme 6.3.1 (`shape_to_mask`, `shapes_to_label`), pycocotools
2.0.11 (`COCO.annToMask`), ultralytics 8.4.190 (`polygon2mask`), supervisely 6.74.51 (`Annotation.from_json`, `draw`);
CVAT's by the calls of its export, pycocotools 2.0.11 and OpenCV.
"""

import base64
import io
import json
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from severstal_cli.config import EncodeConfig
from severstal_cli.errors import InputError, MachineError, UsageError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.stages.encoding import encode
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle

SIZE = (12, 20)
P = [[2.5, 1.2], [15.7, 3.4], [11.1, 10.9], [4.0, 8.6]]
OUT = [[-3.2, 4.5], [8.4, -2.7], [24.6, 9.3], [6.5, 15.1]]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAYAAAAEAQAAAACFf3PuAAAAEElEQVR4nGMoYGBgkGGYAwAECAEpD0vLIgAAAABJRU5ErkJggg=="
"""1 bit, 6 x 4, as labelme writes it."""
BITMAP = (
    "eJzrDPBz5+WS4mJgYOD19HAJAtJsQMzCyAwkp5+6wwASCPAJcQXS////X3pz/l0gi7EkyC+YweHZjTQgR8DTxTGkYk6yRkJCwoTEGcwMLByMmvze"
    "p5VAej1d/VzWOSU0AQDQPBoT"
)
"""The same mask, as Supervisely writes it."""
PATCH = "67 1 76 1 88 1 100 1 102 2 114 2 126 2"
"""It, at row 3 and column 5."""
HEAD = "ImageId,ClassId,EncodedPixels\n"

config_of = partial(EncodeConfig, overwrite=True)


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]


def write(path: Path, content: Any) -> Path:
    """`content` as JSON, text or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    return write(path, cv2.imencode(path.suffix, np.zeros(size, np.uint8))[1].tobytes())


def table(masks: Path, tmp_path: Path, progress: Progress = SILENT, **options: Any) -> str:
    out = tmp_path / "table.csv"
    encode(config_of(masks=masks, out=out, **options), progress)
    text = out.read_text()
    return text.removeprefix(HEAD) if options.get("layout") != "original" else text


def fault(masks: Path, tmp_path: Path, **options: Any) -> str:
    out = tmp_path / "table.csv"
    with pytest.raises(InputError) as caught:
        encode(config_of(masks=masks, out=out, **options))
    assert not out.exists()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


# ---- one image, a.jpg of 12 x 20, as each tool writes it ----


def coco(*segmentations: Any, **more: Any) -> dict[str, Any]:
    annotations = [
        {"id": number, "image_id": 4, "category_id": 1, "segmentation": segmentation, "iscrowd": 0, "area": 9.0,
         "bbox": [1, 2, 3, 4]}
        for number, segmentation in enumerate(segmentations, start=1)
    ]  # fmt: skip
    document = {
        "info": {"year": 2026},
        "licenses": [],
        "images": [{"id": 4, "file_name": "a.jpg", "height": 12, "width": 20, "license": 0}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "scratch", "supercategory": ""}],
    }
    return document | more


def labelme(*shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 12,
        "imageWidth": 20,
    } | more


def shape(points: Any, kind: str = "polygon", label: str = "scratch", **more: Any) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    } | more


def cvat(*shapes: str, labels: str = "scratch", size: str = 'width="20" height="12"') -> str:
    named = "".join(
        f"<label><name>{name}</name><color>#ff0000</color><attributes></attributes></label>"
        for name in labels.split(",")
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><id>4</id>'
        f"<name>t</name><size>1</size><labels>{named}</labels></task><dumped>2026-01-01</dumped></meta>"
        f'<image id="0" name="set/a.jpg" {size}>{"".join(shapes)}</image></annotations>'
    )


def cvat_polygon(points: list[list[float]], label: str = "scratch", z: int = 0) -> str:
    text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f'<polygon label="{label}" source="manual" occluded="0" points="{text}" z_order="{z}"></polygon>'


def cvat_mask(counts: str, place: str = 'left="5" top="3" width="6" height="4"') -> str:
    return f'<mask label="scratch" source="manual" occluded="0" rle="{counts}" {place} z_order="0"></mask>'


def sly(*objects: dict[str, Any], size: Any = None) -> dict[str, Any]:
    return {"description": "", "tags": [], "size": size or {"height": 12, "width": 20}, "objects": list(objects)}


def sly_polygon(exterior: Any, *interior: Any, label: str = "scratch") -> dict[str, Any]:
    return {
        "id": 1,
        "classTitle": label,
        "geometryType": "polygon",
        "tags": [],
        "points": {"exterior": exterior, "interior": list(interior)},
    }


def sly_bitmap(data: str = BITMAP, origin: Any = (5, 3), label: str = "scratch") -> dict[str, Any]:
    return {
        "id": 2,
        "classTitle": label,
        "geometryType": "bitmap",
        "tags": [],
        "bitmap": {"data": data, "origin": list(origin)},
    }


META = {"classes": [{"title": "scratch", "shape": "any", "color": "#F00"}], "tags": [], "projectType": "images"}


def lay(folder: Path, kind: str, content: Any) -> Path:
    """A project of that kind with one image; the path to give to `encode`."""
    if kind == "coco":
        return write(folder / "export.txt", content)  # found by what it holds
    if kind == "labelme":
        write(folder / "a.json", content)
    if kind == "cvat":
        write(folder / "annotations.xml", content)
    if kind == "sly":
        write(folder / "meta.json", META)
        write(folder / "ds" / "ann" / "a.jpg.json", content)
    if kind == "yolo":
        write(folder / "data.yaml", "train: images\nnc: 1\nnames: ['scratch']\n")
        image(folder / "images" / "a.jpg")
        write(folder / "labels" / "a.txt", content)
    return folder


GOLDEN = [
    ("coco", coco([flat(P)]), "38 5 51 7 63 7 75 7 87 8 99 8 111 8 124 8 136 7 148 6 160 4 172 2 184 1"),
    ("coco", coco([flat(P), flat([[14, 1], [19, 1], [19, 6]])]),
     "38 5 51 7 63 7 75 7 87 8 99 8 111 8 124 8 136 7 148 6 160 4 172 2 182 1 184 1 194 2 206 3 218 4"),
    ("coco", coco([flat(P)], [flat([[14, 1], [19, 1], [19, 6]])]),
     "38 5 51 7 63 7 75 7 87 8 99 8 111 8 124 8 136 7 148 6 160 4 172 2 182 1 184 1 194 2 206 3 218 4"),
    ("coco", coco([flat(OUT)]), "3 6 15 7 26 10 37 120 158 11 171 10 184 9 196 9 209 8 222 6 235 5"),
    ("coco", coco({"size": [12, 20], "counts": "R21803000F19000W3"}), PATCH),
    ("coco", coco({"size": [12, 20], "counts": [66, 1, 8, 1, 11, 1, 11, 1, 1, 2, 10, 2, 10, 2, 113]}), PATCH),
    ("yolo", "0 0.125000 0.100000 0.785000 0.283333 0.555000 0.908333 0.200000 0.716667\n",
     "26 2 38 6 50 8 62 8 75 8 87 8 99 8 111 8 123 9 135 9 148 7 160 5 172 3 184 1"),
    ("labelme", labelme(shape(P)), "26 2 39 5 51 7 63 7 75 7 87 7 99 8 112 7 124 7 136 8 148 7 160 5 172 3 184 1"),
    ("labelme", labelme(shape(OUT)),
     "4 6 15 8 27 9 38 107 146 11 159 10 171 10 184 9 197 8 209 8 222 7 235 5"),
    ("labelme", labelme(shape([[14.6, 9.2], [3.3, 2.7]], "rectangle")),
     "39 8 51 8 63 8 75 8 87 8 99 8 111 8 123 8 135 8 147 8 159 8 171 8"),
    ("labelme", labelme(shape([[9.4, 6.1], [12.9, 8.3]], "circle")),
     "65 4 76 6 87 8 98 10 110 10 122 10 135 8 148 6 161 4"),
    ("labelme", labelme(shape([[2.0, 3.0], [17.5, 8.2]], "line")),
     "20 2 29 5 38 8 49 10 61 10 73 10 85 11 98 10 110 10 "
     "122 11 135 10 147 10 159 10 172 9 184 9 196 9 209 8 221 5 233 2"),
    ("labelme", labelme(shape([[1.0, 1.0], [10.0, 9.0], [18.0, 2.0]], "linestrip")),
     "4 5 14 8 25 9 37 10 49 11 61 24 86 11 99 10 112 9 124 8 136 9 147 10 158 46 206 9 219 8 233 5"),
    ("labelme", labelme(shape([[10.2, 5.6]], "point")),
     "64 5 75 7 86 9 97 11 109 11 121 11 133 11 145 11 158 9 171 7 184 5"),
    ("labelme", labelme(shape([[3, 2], [12, 4], [11, 9], [2, 7]], "oriented_rectangle")),
     "30 3 39 6 52 5 64 5 76 5 88 6 101 5 113 5 125 5 137 6 149 3"),
    ("labelme", labelme(shape([[5, 3], [10, 6]], "mask", mask=PNG)), PATCH),
    ("labelme", labelme(shape(P), shape([[6, 4], [10, 4], [8, 7]], label="_background_")),
     "26 2 39 5 51 7 63 7 75 2 78 4 87 2 92 2 99 2 105 2 112 1 116 3 124 1 126 5 136 8 148 7 160 5 172 3 184 1"),
    ("cvat", cvat(cvat_polygon(P)), "38 5 51 7 63 7 75 7 87 8 99 8 111 8 124 8 136 7 148 6 160 4 172 2 184 1"),
    ("cvat", cvat(cvat_polygon(OUT)), "3 6 15 7 26 10 37 120 158 11 171 10 184 9 196 9 209 8 222 6 235 5"),
    ("cvat", cvat(cvat_mask("1, 3, 11, 4, 2, 3")), PATCH),
    ("cvat", cvat('<ellipse label="scratch" cx="9.50" cy="6.20" rx="6.40" ry="3.10" rotation="20.00" z_order="0"/>'),
     "53 2 64 4 76 5 88 6 100 6 112 7 124 7 136 7 149 6 161 6 174 5 187 3 200 2"),
    ("sly", sly(sly_polygon(P)), "26 2 38 6 50 8 62 8 75 8 87 8 99 8 111 8 123 9 135 9 148 7 160 5 172 3 184 1"),
    ("sly", sly(sly_polygon([[1, 1], [17, 2], [16, 10], [2, 9]], [[6, 4], [12, 4], [9, 7]])),
     "14 5 26 9 38 9 50 9 62 9 74 3 78 5 86 3 91 4 98 3 104 3 110 3 117 2 123 2 128 4 135 2 139 5 147 2 150 6 159 9 "
     "171 9 183 9 195 9 207 4"),
    ("sly", sly(sly_polygon(OUT)), "3 7 14 10 26 131 158 11 170 11 183 10 196 9 209 8 221 8 234 7"),
    ("sly", sly(sly_bitmap()), PATCH),
    ("sly", sly(sly_bitmap(origin=(17, 10))), "227 1 239 1"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "runs"), GOLDEN, ids=[f"{row[0]}{n}" for n, row in enumerate(GOLDEN)])
def test_shapes_are_drawn_to_the_pixel_as_their_tool_draws(tmp_path: Path, kind: str, content: Any, runs: str) -> None:
    assert table(lay(tmp_path / "set", kind, content), tmp_path) == f"a.jpg,1,{runs}\n"


# ---- masks drawn, exported, read again ----


def blobs(seed: int) -> dict[tuple[str, int], NDArray[np.bool_]]:
    """Masks of three classes with holes, some overlapping, in images of 37 x 53; b.png is clean."""
    rng = np.random.default_rng(seed)
    masks = {}
    for name, classes in (("a.png", (1, 3)), ("c.png", (1, 2, 3))):
        for class_id in classes:
            noise = cv2.GaussianBlur(rng.normal(size=(37, 53)), (0, 0), 3.0)
            masks[name, class_id] = np.asarray(noise > np.quantile(noise, 0.8), np.bool_)
    return masks


NAMES = {1: "scratch", 2: "patch", 3: "inclusion"}


def png_of(mask: NDArray[np.bool_]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def counts_of(mask: NDArray[Any]) -> list[int]:
    """Lengths of runs, the first of zeros, in the order of `mask`'s memory."""
    ends = [*(np.flatnonzero(np.diff(mask.astype(np.int8))) + 1), mask.size]
    return [0] * bool(mask[0]) + np.diff([0, *ends]).tolist()


def export_coco(folder: Path, masks: dict[tuple[str, int], NDArray[np.bool_]], *, packed: bool) -> Path:
    coder = pytest.importorskip("pycocotools.mask")
    annotations = []
    for number, ((name, class_id), mask) in enumerate(masks.items()):
        counts: Any = counts_of(mask.ravel(order="F"))
        if packed:
            counts = coder.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        annotations.append(
            {
                "id": number,
                "image_id": name,
                "category_id": class_id * 10,
                "iscrowd": 1,
                "segmentation": {"size": [37, 53], "counts": counts},
            }
        )
    return write(
        folder / "annotations" / "instances_default.json",
        {
            "images": [
                {"id": name, "file_name": f"part\\{name}", "height": 37, "width": 53}
                for name in ("a.png", "b.png", "c.png")
            ],
            "annotations": annotations,
            "categories": [{"id": class_id * 10, "name": name} for class_id, name in reversed(NAMES.items())],
        },
    ).parents[1]


def export_labelme(folder: Path, masks: dict[tuple[str, int], NDArray[np.bool_]]) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        image(folder / name, (37, 53))
        shapes = [
            shape([[0, 0], [52, 36]], "mask", NAMES[class_id], mask=base64.b64encode(png_of(mask)).decode())
            for (of, class_id), mask in masks.items()
            if of == name
        ]
        write(folder / f"{name[0]}.json", labelme(*shapes, imagePath=name, imageHeight=37, imageWidth=53))
    return folder


def export_cvat(folder: Path, masks: dict[tuple[str, int], NDArray[np.bool_]]) -> Path:
    images = []
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        shapes = []
        for (of, class_id), mask in masks.items():
            if of == name:
                rows, columns = np.nonzero(mask)
                top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
                counts = counts_of(mask[top : bottom + 1, left : right + 1].ravel())
                shapes.append(
                    f'<mask label="{NAMES[class_id]}" rle="{", ".join(map(str, counts))}" left="{left}" top="{top}" '
                    f'width="{right - left + 1}" height="{bottom - top + 1}" z_order="0"></mask>'
                )
        images.append(f'<image id="{number}" name="{name}" width="53" height="37">{"".join(shapes)}</image>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES.values())
    head = f"<meta><project><labels>{labels}</labels></project></meta>"
    return write(folder / "x.xml", f"<annotations>{head}{''.join(images)}</annotations>")


def export_sly(folder: Path, masks: dict[tuple[str, int], NDArray[np.bool_]]) -> Path:
    write(folder / "meta.json", {"classes": [{"title": name, "shape": "bitmap"} for name in NAMES.values()]})
    for name in ("a.png", "b.png", "c.png"):
        objects = [
            sly_bitmap(base64.b64encode(zlib.compress(png_of(mask))).decode(), (0, 0), NAMES[class_id])
            for (of, class_id), mask in masks.items()
            if of == name
        ]
        image(folder / f"ds {name[0]}" / "img" / name, (37, 53))
        write(folder / f"ds {name[0]}" / "ann" / f"{name}.json", sly(*objects, size={"height": 37, "width": 53}))
    return folder


EXPORTS: dict[str, Callable[..., Path]] = {
    "COCO, packed": lambda folder, masks: export_coco(folder, masks, packed=True),
    "COCO, counts": lambda folder, masks: export_coco(folder, masks, packed=False),
    "labelme": export_labelme,
    "CVAT": export_cvat,
    "Supervisely": export_sly,
}


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_masks_go_to_a_tool_and_back(tmp_path: Path, export: Callable[..., Path]) -> None:
    masks = blobs(1)
    given = export(tmp_path / "set", masks)
    expected = [
        HEAD.strip(),
        *(f"{name},{class_id},{rle.to_text(rle.encode(masks[name, class_id]))}" for name, class_id in sorted(masks)),
    ]
    for name in ("a.png", "b.png", "c.png", "d.png"):
        image(tmp_path / "images" / name, (37, 53))
    order = {"class_names": tuple(NAMES.values())}  # labelme's own order is that of the alphabet
    assert table(given, tmp_path, **order).splitlines() == expected[1:]
    result = encode(config_of(masks=given, out=tmp_path / "t.csv", images=tmp_path / "images", **order))
    assert (tmp_path / "t.csv").read_text().splitlines() == expected
    assert (result.images, result.masks, result.names) == (4, 5, ("scratch", "patch", "inclusion"))
    assert result.masks_by_class == (2, 1, 2)
    rows = table(given, tmp_path, layout="original", **order).splitlines()
    assert [row for row in rows if row.startswith("b.png")] == ["b.png_1,", "b.png_2,", "b.png_3,"]
    assert len(rows) == 1 + 3 * 3


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour.reshape(-1, 2) for contour in found if len(contour) > 2]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, under numpy 2
def test_outlines_go_to_coco_and_yolo_and_are_drawn_by_their_libraries(tmp_path: Path) -> None:
    coder = pytest.importorskip("pycocotools.mask")
    masks, annotations, coco_rows, yolo_rows = blobs(2), [], [], []
    for number, ((name, class_id), mask) in enumerate(sorted(masks.items())):
        polygons = outlines(mask)
        parts = [polygon.ravel().astype(float).tolist() for polygon in polygons]
        annotations.append({"id": number, "image_id": ord(name[0]), "category_id": class_id, "segmentation": parts})
        drawn = coder.decode(coder.merge(coder.frPyObjects(parts, 37, 53)))
        coco_rows.append(f"{name},{class_id},{rle.to_text(rle.encode(drawn))}")
        lines, drawn = [], np.zeros((37, 53), np.uint8)
        for polygon in polygons:
            shares = [f"{value:.6f}" for value in (polygon / [53, 37]).ravel()]
            lines.append(f"{class_id - 1} {' '.join(shares)}\n")
            pixels = np.array(shares, np.float32).reshape(-1, 2) * np.array([53, 37], np.float32)
            cv2.fillPoly(drawn, [np.asarray(pixels, np.int32)], color=(1,))
        yolo_rows.append(f"{name},{class_id},{rle.to_text(rle.encode(drawn))}")
        label = tmp_path / "yolo" / "labels" / "train" / f"{name[0]}.txt"
        write(label, (label.read_text() if label.exists() else "") + "".join(lines))
    document = coco(
        images=[{"id": ord(n[0]), "file_name": n, "height": 37, "width": 53} for n in ("a.png", "c.png")],
        annotations=annotations,
        categories=[{"id": i, "name": n} for i, n in NAMES.items()],
    )
    assert table(write(tmp_path / "coco.json", document), tmp_path).splitlines() == coco_rows
    for name in ("a.png", "b.png", "c.png"):
        image(tmp_path / "yolo" / "images" / "train" / name, (37, 53))
    write(tmp_path / "yolo" / "set.yml", "names:\n  0: scratch\n  1: patch\n  2: inclusion\n")
    assert table(tmp_path / "yolo", tmp_path).splitlines() == yolo_rows
    assert table(tmp_path / "yolo" / "set.yml", tmp_path).splitlines() == yolo_rows
    assert table(tmp_path / "yolo" / "labels", tmp_path, layout="original").count("b.png") == 3


# ---- classes ----


def test_category_ids_with_gaps_become_classes_without(tmp_path: Path, heard: Any) -> None:
    document = coco(
        [flat(P)], categories=[{"id": 18, "name": "patch"}, {"id": 2, "name": "spot"}, {"id": 7, "name": "rust"}]
    )
    document["annotations"][0]["category_id"] = 18
    assert table(write(tmp_path / "c.json", document), tmp_path, heard).startswith("a.jpg,3,")
    assert "note: class ids differ from the category ids of COCO: 2 is spot, 7 is rust, 18 is patch" in heard.lines


def test_a_group_and_the_background_are_no_classes(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "defects", "supercategory": "none"},  # as Roboflow writes it
        {"id": 1, "name": "scratch", "supercategory": "defects"},
        {"id": 2, "name": "Background", "supercategory": "none"},
    ]
    result = encode(
        config_of(masks=write(tmp_path / "c.json", coco([flat(P)], categories=categories)), out=tmp_path / "t.csv")
    )
    assert (result.names, result.classes) == (("scratch",), 1)


def test_names_of_labelme_are_sorted_or_as_given(tmp_path: Path, heard: Any) -> None:
    shapes = [shape(P, label="rust"), shape([[0, 0], [3, 0], [0, 3]], label="dent"), shape(P, label="__ignore__")]
    write(tmp_path / "a.json", labelme(*shapes[:2]))
    assert encode(config_of(masks=tmp_path, out=tmp_path / "t.csv")).names == ("dent", "rust")
    given = encode(config_of(masks=tmp_path, out=tmp_path / "t.csv", class_names=("rust", "scale", "dent")))
    assert (given.names, given.masks_by_class) == (("rust", "scale", "dent"), (1, 0, 1))
    assert "a.json, shape 1 (rust): 'rust' is not a class. The classes are dent, scale" in fault(
        tmp_path, tmp_path / "no", class_names=("dent", "scale")
    )
    image(tmp_path / "b.jpg")
    table(tmp_path, tmp_path, heard)
    assert "note: 1 images beside the JSON files have none; with --images they count as clean" in heard.lines
    with pytest.raises(UsageError, match="class names"):
        config_of(masks=tmp_path, out=tmp_path / "t.csv", class_names=("a", "a"))
    write(tmp_path / "a.json", labelme(*shapes))
    assert encode(config_of(masks=tmp_path, out=tmp_path / "t.csv")).masks_by_class == (1, 0)  # rust is covered


def test_classes_of_one_image_may_overlap(tmp_path: Path) -> None:
    text = table(lay(tmp_path / "s", "cvat", cvat(cvat_polygon(P, "b"), cvat_polygon(P, "a"), labels="b,a")), tmp_path)
    first, second = text.splitlines()
    assert first.removeprefix("a.jpg,1,") == second.removeprefix("a.jpg,2,")


def test_a_background_of_cvat_cuts_by_its_z_order(tmp_path: Path) -> None:
    hole = [cvat_polygon([[4, 4], [9, 4], [9, 8], [4, 8]], "background", z) for z in (-1, 1)]
    below, above = (
        table(lay(tmp_path / name, "cvat", cvat(text, cvat_polygon(P), labels="background,scratch")), tmp_path)
        for name, text in zip("ba", hole, strict=True)
    )
    assert below == f"a.jpg,1,{GOLDEN[0][2]}\n"
    assert rle.area(rle.from_text(above.split(",")[2])) < rle.area(rle.from_text(below.split(",")[2]))


def test_the_command_prints_the_classes(tmp_path: Path, severstal: Callable[..., Any]) -> None:
    given = lay(tmp_path / "s", "cvat", cvat(cvat_polygon(P), '<tag label="spot"/>', labels="scratch,spot"))
    printed = severstal("encode", given, "--out", tmp_path / "t.csv", "--class-names", "spot,scratch")
    assert not printed.code
    assert printed.out.splitlines()[1] == "class 1 = spot (0 masks), class 2 = scratch (1 mask)"
    assert "CVAT annotations of 1 image\n" in printed.err
    assert "1 tags are ignored" in printed.err
    assert (tmp_path / "t.csv").read_text().startswith(f"{HEAD}a.jpg,2,")


# ---- where files lie, what images are called ----


def test_folders_as_roboflow_lays_them(tmp_path: Path) -> None:
    for part, name in (("train", "a.jpg"), ("valid", "b.jpg")):
        document = coco([flat(P)])
        document["images"][0]["file_name"] = name
        write(tmp_path / "coco" / part / "_annotations.coco.json", document)
        image(tmp_path / "coco" / part / name)
        write(tmp_path / "yolo" / part / "labels" / f"{name[0]}.txt", "0 0.1 0.1 0.9 0.1 0.9 0.9\n")
        image(tmp_path / "yolo" / part / "images" / name)
    assert [row[:8] for row in table(tmp_path / "coco", tmp_path).splitlines()] == ["a.jpg,1,", "b.jpg,1,"]
    assert "no class" not in table(tmp_path / "yolo", tmp_path)
    assert [row[:8] for row in table(tmp_path / "yolo", tmp_path).splitlines()] == ["a.jpg,1,", "b.jpg,1,"]
    write(tmp_path / "coco" / "train" / "_annotations.coco.json", coco(categories=[{"id": 1, "name": "rust"}]))
    assert "its categories differ from those of _annotations.coco.json" in fault(tmp_path / "coco", tmp_path / "no")


def test_a_size_as_stored_of_a_turned_image_names_its_orientation(tmp_path: Path) -> None:
    given = write(tmp_path / "c.json", coco([flat(P)]))
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "images").mkdir()
    Image.new("L", (20, 12)).save(tmp_path / "images" / "a.jpg", exif=exif)
    found = fault(given, tmp_path, images=tmp_path / "images")
    assert "12x20 pixels are declared for a.jpg, " in found
    assert "carries EXIF orientation 6 and is read upright" in found


def test_names_that_collapse_are_refused(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}/a.jpg", "height": 12, "width": 20} for n in (1, 2)]
    given = write(tmp_path / "c.json", coco(images=images))
    assert fault(given, tmp_path) == f"{given}: two images are named a.jpg. Rename one of them"
    for image, name in zip(images, ("\u00fc.jpg", "u\u0308.jpg"), strict=True):  # in two Unicode forms
        image["file_name"] = name
    given = write(tmp_path / "c.json", coco(images=images))
    assert fault(given, tmp_path) == f"{given}: two images are named \u00fc.jpg. Rename one of them"


def test_names_and_sizes_are_those_of_the_images(tmp_path: Path) -> None:
    document = coco([flat(P)])
    document["images"][0]["file_name"] = "u\u0308.jpg"  # as a Mac spells it
    given = write(tmp_path / "c.json", document)
    image(tmp_path / "images" / "\u00fc.jpg")
    assert table(given, tmp_path, images=tmp_path / "images").startswith("\u00fc.jpg,1,")
    image(tmp_path / "images" / "\u00fc.jpg", (20, 12))
    assert "12x20 pixels are declared for u\u0308.jpg, " in fault(given, tmp_path / "no", images=tmp_path / "images")
    (tmp_path / "images" / "\u00fc.jpg").unlink()
    image(tmp_path / "images" / "a.png")
    given = write(tmp_path / "c.json", coco([flat(P)]))
    assert "no image a.jpg among those of --images (a.png exists)" in fault(
        given, tmp_path / "no", images=tmp_path / "images"
    )
    listed = write(tmp_path / "list.csv", "ImageId\nz.jpg\na.jpg\n")
    assert table(given, tmp_path, images=listed, layout="original").splitlines()[1] == "z.jpg_1,"


def test_an_image_beside_labelme_gives_a_size_that_is_missing(tmp_path: Path) -> None:
    given = write(
        tmp_path / "s" / "a.json", labelme(shape(P), imageHeight=None, imageWidth=None, imagePath="..\\a.jpg")
    )
    assert "the size of a.jpg is unknown. Give the images with --images" in fault(given.parent, tmp_path)
    image(tmp_path / "a.jpg")
    assert table(given.parent, tmp_path) == f"a.jpg,1,{GOLDEN[7][2]}\n"


def test_old_projects_of_supervisely_name_images_without_ending(tmp_path: Path) -> None:
    write(tmp_path / "meta.json", META)
    write(tmp_path / "ds" / "ann" / "a.json", sly(sly_bitmap()))
    assert "0 images are named a in" in fault(tmp_path, tmp_path / "no")
    image(tmp_path / "ds" / "img" / "a.png")
    assert table(tmp_path / "ds", tmp_path) == f"a.png,1,{PATCH}\n"
    assert table(tmp_path / "ds" / "ann", tmp_path) == f"a.png,1,{PATCH}\n"


def test_masks_as_png_are_still_masks(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a_1.png"), np.full((1, 2), 255, np.uint8))
    write(tmp_path / "about.json", {"images": 1})
    write(tmp_path / "classes.txt", "scratch\n")
    write(tmp_path / "notes.txt", "1 2 3\n")
    write(tmp_path / "x.xml", "<annotation/>")
    assert table(tmp_path, tmp_path) == "a.jpg,1,1 2\n"
    with pytest.raises(UsageError, match="--class-names: mask files name no classes"):
        table(tmp_path, tmp_path, class_names=("scratch",))


# ---- what is refused ----

BOX = '<box label="scratch" xtl="1" ytl="1" xbr="5" ybr="5" z_order="0"></box>'
FLAT_PNG = base64.b64encode(png_of(np.ones((4, 6), np.bool_))).decode()
HUGE = {"height": 10**6, "width": 10**6}
BOMB = base64.b64encode(zlib.compress(bytes(10**8), 9)).decode()

FAULTS: list[tuple[str, Any, str]] = [
    ("coco", coco([]), "export.txt, image a.jpg, annotation 1: it has a box and no segmentation"),
    ("coco", coco([[1.0, 2, 3, 4]]), "annotation 1: polygon 1: 2 points where it needs 3 or more"),
    ("coco", coco([flat(P), []]), "annotation 1: polygon 2: 0 points where it needs 3 or more"),
    ("coco", coco([[1.0, 2, 3, 4, 5]]), "annotation 1: polygon 1: 5 coordinates, an odd count"),
    ("coco", coco([[*flat(P)[:-1], float("nan")]]), "annotation 1: polygon 1: a coordinate is nan"),
    ("coco", coco([[*flat(P)[:-1], 10**400]]), "annotation 1: polygon 1: a coordinate is 1000000000"),
    ("coco", coco([[*flat(P)[:-1], "7"]]), "annotation 1: polygon 1: a coordinate is not a number: '7'"),
    ("coco", coco([[0, 0, 201, 0, 0, 9]]), "annotation 1: polygon 1: a coordinate is 201, far outside its image"),
    ("coco", coco([[0, 0, 200, 200] * 12000]), "the outline of its polygon is 4.8e+06 pixels long"),
    ("coco", coco(flat(P)), "annotation 1: its segmentation is neither a list of polygons nor an RLE"),
    ("coco", coco([P]), "annotation 1: polygon 1: a coordinate is not a number: [2.5, 1.2]"),
    ("coco", coco({"size": [20, 12], "counts": [240]}), "its RLE has size [20, 12], its image [12, 20]"),
    ("coco", coco({"size": [12, 20], "counts": [3, 2]}), "its RLE has 5 pixels in place of 12 x 20"),
    ("coco", coco({"size": [12, 20], "counts": [3, 10**30]}), "its RLE is neither a list of whole numbers nor"),
    ("coco", coco({"size": [12, 20], "counts": [-1, 241]}), "its RLE is neither a list of whole numbers nor"),
    ("coco", coco({"size": [12, 20], "counts": "oooo"}), "its compressed RLE is damaged"),
    ("coco", coco({"size": [12, 20], "counts": "zzzzzzzzzzzzzzzz"}), "its compressed RLE is damaged"),
    ("coco", coco({"size": [12, 20], "counts": "\ud800"}), "its compressed RLE is damaged"),
    ("coco", coco({"size": [12, 20], "counts": "31"}), "its RLE has 4 pixels in place of 12 x 20"),
    ("coco", coco({"size": [12, 20], "counts": None}), "its RLE is neither a list of whole numbers nor a text"),
    ("coco", coco(images=[{"id": 1, "file_name": "a.jpg"} | HUGE]), "image a.jpg: its height 1000000 and width"),
    ("coco", coco(images=[{"id": 1, "file_name": "a.jpg", "height": -5, "width": 3}]), "are not whole numbers from 1"),
    ("coco", coco(images=[{"id": 1, "file_name": "a.jpg", "height": "12", "width": 3}]), "are not whole numbers"),
    ("coco", coco(images=[]), "it lists no image"),
    ("coco", coco([flat(P)], images=[]), "annotation 1: there is no image with the id 4"),
    ("coco", coco([flat(P)], categories=[{"id": 3, "name": "x"}]), "annotation 1: there is no category 1"),
    ("coco", coco([flat(P)], categories=[{"id": 1}]), "category number 1: it has no 'name'"),
    ("coco", coco([flat(P)], categories=[{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]), "two classes are named x"),
    ("coco", coco(annotations=["x"]), "annotation number 1: 'x' in place of an object with 'image_id'"),
    ("coco", coco(annotations=[{"segments_info": []}]), "annotation number 1: it is panoptic"),
    ("coco", coco(images=[{"id": 1, "file_name": "a.jpg"}], annotations=[]), "the size of a.jpg is unknown"),
    ("coco", [{"image_id": 1}], "export.txt: annotations of an unknown format. Supported are COCO, YOLO"),
    ("coco", '{"images": [', "export.txt, line 1: not JSON"),
    ("coco", "[" * 100_000, "export.txt: not JSON: more than 100 levels of lists and tables"),
    ("coco", '{"a": ' + "9" * 5000 + "}", "export.txt: not JSON: a number with too many digits"),
    ("coco", b'{"a": "\xff"}', "export.txt: it is not UTF-8 text"),
    ("coco", b"PK\x03\x04rest", "export.txt: it is a ZIP archive. Unpack it"),
    ("yolo", "0 0.5 0.5 0.2 0.2\n", "a.txt, line 1: five numbers are a box"),
    ("yolo", "0 0.5 0.5 0.2 0.2 0.1 0.1\n0 0.5 0.5 0.2\n", "a.txt, line 2: 3 coordinates: a polygon has x and y of"),
    ("yolo", "0 0.5 0.5 0.2 0.2 0.1 0.1 0.3\n", "a.txt, line 1: 7 coordinates"),
    ("yolo", "0 0.5 0.5 0.2 0.2 0.1 nan\n", "a.txt, line 1: not a class and coordinates"),
    ("yolo", "0.5 0.5 0.5 0.2 0.2 0.1 0.3\n", "a.txt, line 1: not a class and coordinates"),
    ("yolo", "0 12 3 14 3 14 9\n", "a.txt, line 1: a coordinate is not between 0 and 1"),
    ("yolo", "3 0.5 0.5 0.2 0.2 0.1 0.3\n", "a.txt, line 1: there is no class 3 among 1 names"),
    ("yolo", "scratch 0.5 0.5 0.2 0.2 0.1 0.3\n", "a.txt, line 1: not a row of numbers: 'scratch"),
    ("labelme", labelme(shape(P[:2])), "a.json, image a.jpg, shape 1 (scratch): 2 points where it needs 3 or more"),
    ("labelme", labelme(shape(P, "circle")), "shape 1 (scratch): 4 points where it needs 2"),
    ("labelme", labelme(shape(P, "points")), "labelme draws no mask for a shape of type 'points'"),
    ("labelme", labelme(shape(P, [1])), "labelme draws no mask for a shape of type [1]"),
    ("labelme", labelme(shape(P, label="\ud800")), "a class is named '\\ud800'"),
    ("labelme", labelme(shape([1, 2, 3])), "its points are not a list of [x, y] pairs"),
    ("labelme", labelme(shape([[1, 2], [3, 4], [5, True]])), "a coordinate is not a number: True"),
    ("labelme", labelme(shape([[1, 2], [3, 4], [5, 1e999]])), "a coordinate is inf"),
    ("labelme", labelme({"points": P}), "a.json: shape 1: it has no 'label'"),
    ("labelme", labelme(shape([[5, 3], [9, 6]], "mask", mask=PNG)), "its mask is a PNG of 4 x 6, its points span"),
    ("labelme", labelme(shape([[17, 3], [22, 6]], "mask", mask=PNG)), "its mask of 4 x 6 at row 3, column 17"),
    ("labelme", labelme(shape([[5, 3], [10, 6]], "mask", mask="####")), "its mask is not a PNG"),
    ("labelme", labelme(shape([[5, 3], [10, 6]], "mask", mask=PNG[:64])), "its mask is a damaged PNG"),
    ("labelme", labelme(shape([[5, 3], [10, 6]], "mask")), "its mask is not base64"),
    ("labelme", labelme(shape(P), imageHeight=10**6, imageWidth=10**6), "are too large for an image"),
    ("labelme", labelme(shape(P), imagePath=7), "'imagePath' is not a text: 7"),
    ("labelme", labelme(), "it names no class. Name them: --class-names"),
    ("cvat", cvat(BOX), "annotations.xml, image a.jpg, box number 1 (scratch): it is not a mask"),
    ("cvat", cvat('<polyline label="scratch" points="1,1;2,2"/>'), "polyline number 1 (scratch): it is not a mask"),
    ("cvat", cvat('<blob label="scratch"/>'), "blob number 1 (scratch): this kind of shape is unknown"),
    ("cvat", cvat(cvat_polygon(P[:2])), "polygon number 1 (scratch): 2 points where it needs 3 or more"),
    ("cvat", cvat('<polygon label="scratch" points=""/>'), "its points are not x,y;x,y;...: ''"),
    ("cvat", cvat('<polygon label="scratch" points="1,1;2,nan;3,3"/>'), "a coordinate is nan"),
    ("cvat", cvat(cvat_polygon(P, "rust")), "annotations.xml: the label 'rust' is not in its list of labels"),
    ("cvat", cvat(cvat_mask("1, 3")), "its RLE has 4 pixels in place of 4 x 6"),
    ("cvat", cvat(cvat_mask("1, x")), "its RLE is not a list of whole numbers between commas"),
    ("cvat", cvat(cvat_mask("-1, 25")), "its RLE is not a list of whole numbers between commas"),
    ("cvat", cvat(cvat_mask("24", 'left="16" top="3" width="6" height="4"')), "leaves the image of 12 x 20"),
    ("cvat", cvat(cvat_mask("1", 'left="1" top="1" width="1000000" height="1000000"')), "are too large for an image"),
    ("cvat", cvat(cvat_mask("24", 'left="1" top="1" width="" height="4"')), "its width is ''"),
    ("cvat", cvat(size='width="1e6" height="1000000"'), "image a.jpg: its height 1000000 and width 1000000 are too"),
    ("cvat", "<annotations><track/></annotations>", "annotations.xml: its format is CVAT for video"),
    ("cvat", f"<annotations>{'<a>' * 300_000}", "annotations.xml: not XML: no element found"),
    ("cvat", "<annotations><image", "annotations.xml: not XML: unclosed token"),
    (
        "cvat",
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>',
        "annotations.xml: it declares a document type, 'x'. Remove the line",
    ),
    ("sly", sly(sly_polygon(P[:2])), "a.jpg.json, image a.jpg, object 1 (scratch): 2 points where it needs 3 or more"),
    ("sly", sly({**sly_polygon(P), "points": {"exterior": P, "interior": 3}}), "its interior is not a list of holes"),
    ("sly", sly(sly_polygon(P, [[1, 1]])), "object 1 (scratch): 1 point where it needs 3 or more"),
    ("sly", sly(sly_polygon(P) | {"geometryType": "rectangle"}), "object 1 (scratch): a rectangle is not a mask"),
    ("sly", sly(sly_polygon(P, label="rust")), "object 1: there is no class 'rust' in meta.json"),
    ("sly", sly(sly_bitmap("abcd")), "its bitmap is damaged: Error -3"),
    ("sly", sly(sly_bitmap(BITMAP[:80])), "its bitmap is truncated, or decompresses to more than its image can hold"),
    ("sly", sly(sly_bitmap(BOMB)), "its bitmap is truncated, or decompresses to more than its image can hold"),
    ("sly", sly(sly_bitmap(base64.b64encode(zlib.compress(b"no")).decode())), "its mask is not a PNG"),
    (
        "sly",
        sly(sly_bitmap(base64.b64encode(zlib.compress(png_of(np.ones((13, 3), np.bool_)))).decode())),
        "its bitmap of 13 x 3 does not fit the image of 12 x 20",
    ),
    ("sly", sly(sly_bitmap(base64.b64encode(zlib.compress(png_of(np.zeros((3, 3), np.bool_)))).decode())), "is empty"),
    ("sly", sly(sly_bitmap(origin=("a", 3))), "a coordinate is not a number: 'a'"),
    ("sly", sly(size=HUGE), "are too large for an image"),
    ("sly", {"objects": []}, "a.jpg.json: it has no 'size'"),
    ("sly", "[]", "a.jpg.json: [] in place of an object with 'size'"),
]


@pytest.mark.parametrize(("kind", "content", "message"), FAULTS, ids=[f"{row[0]}{n}" for n, row in enumerate(FAULTS)])
def test_what_is_refused_in_one_line(tmp_path: Path, kind: str, content: Any, message: str) -> None:
    assert message in fault(lay(tmp_path / "set", kind, content), tmp_path)


def test_labels_of_yolo_need_their_images(tmp_path: Path) -> None:
    given = lay(tmp_path / "s", "yolo", "0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (given / "images" / "a.jpg").rename(tmp_path / "a.jpg")
    assert "images: no images beside the labels. Name the image folder with --images" in fault(given, tmp_path)
    image(given / "images" / "b.jpg")
    assert "a.txt: no image is named a in" in fault(given, tmp_path)
    assert table(given, tmp_path, images=tmp_path).startswith("a.jpg,1,")


def test_labels_and_images_beside_each_other(tmp_path: Path) -> None:
    for name, text in (("a", "1 0.1 0.1 0.9 0.1 0.9 0.9\n"), ("b", "\n")):
        write(tmp_path / "s" / f"{name}.txt", text)
        image(tmp_path / "s" / f"{name}.png")
    write(tmp_path / "s" / "classes.txt", "rust\nscratch\n")
    result = encode(config_of(masks=tmp_path / "s", out=tmp_path / "t.csv"))
    assert (result.names, result.masks_by_class, result.images) == (("rust", "scratch"), (0, 1), 2)
    (tmp_path / "s").rename(tmp_path / "labels")
    assert encode(config_of(masks=tmp_path / "labels", out=tmp_path / "t.csv")).names == ("rust", "scratch")
    assert encode(config_of(masks=tmp_path, out=tmp_path / "t.csv")).names == ("rust", "scratch")


def test_two_formats_in_a_folder_are_told_apart_by_a_person(tmp_path: Path) -> None:
    given = lay(tmp_path / "s", "yolo", "0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    write(given / "c.json", coco([flat(P)]))
    assert "annotations of COCO and YOLO. Name the file or folder of one of them" in fault(given, tmp_path)
    assert table(given / "c.json", tmp_path) == f"a.jpg,1,{GOLDEN[0][2]}\n"
    assert table(given / "labels", tmp_path).startswith("a.jpg,1,")


def test_a_folder_of_no_known_kind_is_named(tmp_path: Path) -> None:
    write(tmp_path / "s" / "boxes.json", {"boxes": []})
    assert f"{tmp_path / 's'}: no masks, and boxes.json has an unknown format" in fault(tmp_path / "s", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x]\nnames: *a\n", "it has aliases (*name)"),
        ("names: 5\n", "names is neither a list nor a mapping from numbers"),
        ("names: {x: y}\n", "names is neither a list nor a mapping from numbers"),
        ("names: [a\n", "not YAML: while parsing"),
        (f"names: {'[' * 5000}\n", "not YAML: "),
        (f"names: {'x' * 300_000}\n", "300008 characters"),
        ("names: [a]\nkpt_shape: [5, 2]\n", "it describes a pose data set"),
    ],
)
def test_names_of_yolo_that_are_no_names(tmp_path: Path, text: str, message: str) -> None:
    given = lay(tmp_path / "s", "yolo", "0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    write(given / "data.yaml", text)
    assert f"data.yaml: {message}" in fault(given, tmp_path)


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "shapely", None)
    for kind, content, library in (
        ("coco", coco([flat(P)]), "pycocotools"),
        ("cvat", cvat(cvat_polygon(P)), "pycocotools"),
        ("sly", sly(sly_polygon(OUT)), "shapely"),
    ):
        with pytest.raises(MachineError, match=rf"need {library}.*pip install 'severstal\[annotations\]'"):
            table(lay(tmp_path / kind, kind, content), tmp_path)
    assert table(lay(tmp_path / "labelme", "labelme", labelme(shape(P))), tmp_path).startswith("a.jpg,1,")
    assert not list(tmp_path.glob("*.part"))


def test_an_ending_of_images_is_no_option_of_annotations(tmp_path: Path) -> None:
    given = write(tmp_path / "c.json", coco([flat(P)]))
    assert fault(given, tmp_path, suffix=".png").startswith(f"--suffix: {given} holds annotations")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0.1,0.1,0.9,0.1,0.9,0.9\n", "line 1: not a row of numbers"),
        ("scratch 0.1 0.1 0.9 0.1 0.9 0.9\n", "line 1: not a row of numbers"),
        ("0 nan 0.1 0.9 0.1 0.9 0.9\n", "line 1: not a class and coordinates"),
        ("0 0.5 0.5\n", "line 1: 2 coordinates"),
        ("0 0.1 0.1\n".encode("utf-16"), "it is not UTF-8 text"),
    ],
)
def test_a_damaged_label_beside_its_image_is_not_a_clean_image(tmp_path: Path, text: Any, message: str) -> None:
    for name, content in (("a", "0 0.1 0.1 0.9 0.1 0.9 0.9\n"), ("b", text)):
        write(tmp_path / "s" / f"{name}.txt", content)
        image(tmp_path / "s" / f"{name}.png")
    write(tmp_path / "s" / "readme.txt", "made by hand\n")  # belongs to no image
    found = fault(tmp_path / "s", tmp_path)
    assert f"{tmp_path / 's' / 'b.txt'}" in found
    assert message in found


def test_a_label_may_begin_with_a_blank_line_and_end_in_capitals(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.TXT"):
        write(tmp_path / "s" / name, ("\n" if name == "b.txt" else "") + "0 0.1 0.1 0.9 0.1 0.9 0.9\n")
        image(tmp_path / "s" / f"{name[0]}.png")
    assert [row[:7] for row in table(tmp_path / "s", tmp_path).splitlines()] == ["a.png,1", "b.png,1", "c.png,1"]


def test_a_blank_line_among_names_of_yolo_would_shift_them(tmp_path: Path) -> None:
    given = lay(tmp_path / "s", "yolo", "1 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (given / "data.yaml").unlink()
    write(given / "classes.txt", "rust\n\nscratch\n\n")
    assert "classes.txt, line 2: it is blank" in fault(given, tmp_path)
    write(given / "classes.txt", "rust\nscratch\n\n")
    assert table(given, tmp_path).startswith("a.jpg,2,")


def test_two_lists_of_yolo_names_that_contradict_each_other(tmp_path: Path) -> None:
    given = lay(tmp_path / "s", "yolo", "1 0.1 0.1 0.9 0.1 0.9 0.9\n")
    write(given / "data.yaml", "names: [rust, scratch]\n")
    other = write(given / "classes.txt", "rust\nscratch\ndent\n")  # names one more class
    assert table(given, tmp_path).startswith("a.jpg,2,")
    for path in (given / "old.yml", given / "labels" / "classes.txt"):
        write(path, "names: [dent, scratch]\n" if path.suffix == ".yml" else "dent\nscratch\n")
        words = f"data.yaml and {path}: class 0 is rust in the first, dent in the second. Name the right one"
        assert words in fault(given, tmp_path / path.suffix)
        assert table(given / "data.yaml", tmp_path).startswith("a.jpg,2,")
        path.unlink()
    other.unlink()


@pytest.mark.parametrize(
    "content",
    [
        labelme() | {"shapes": None},
        {key: value for key, value in labelme(shape(P)).items() if key != "imagePath"},
        [],
    ],
)
def test_a_damaged_json_of_labelme_is_not_a_clean_image(tmp_path: Path, content: Any, heard: Any) -> None:
    write(tmp_path / "s" / "a.json", labelme(shape(P)))
    write(tmp_path / "s" / "config.json", {"theme": "dark"})  # belongs to no image
    for name in "ab":
        image(tmp_path / "s" / f"{name}.jpg")
    damaged = write(tmp_path / "s" / "b.json", content)
    assert f"{damaged}: it is not labelme, like a.json" in fault(tmp_path / "s", tmp_path)
    damaged.unlink()
    assert table(tmp_path / "s", tmp_path, heard).startswith("a.jpg,1,")
    assert "note: ignored, of an unknown format: config.json" in heard.lines


def test_files_with_suffixes_in_capitals_are_read(tmp_path: Path) -> None:
    write(tmp_path / "s" / "a.json", labelme(shape(P)))
    write(tmp_path / "s" / "b.JSON", labelme(shape(P), imagePath="b.jpg"))
    assert [row[:7] for row in table(tmp_path / "s", tmp_path).splitlines()] == ["a.jpg,1", "b.jpg,1"]


TINY = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("coco", coco([flat(TINY)], [flat(TINY)])),
        ("coco", coco([flat([[30, 1], [35, 1], [35, 9]])])),
        ("labelme", labelme(shape(TINY))),
        ("labelme", labelme(shape([[-9, 1], [-5, 1], [-5, 9]]))),
        ("cvat", cvat(cvat_polygon(TINY))),
        ("sly", sly(sly_polygon([[30, 1], [35, 1], [35, 9]]))),
    ],
)
def test_coordinates_as_fractions_or_outside_are_no_clean_images(tmp_path: Path, kind: str, content: Any) -> None:
    found = fault(lay(tmp_path / "s", kind, content), tmp_path)
    assert "all pixels of its " in found
    assert "lie in the upper left 2 x 2" in found


def test_shapes_without_pixels_are_counted(tmp_path: Path, heard: Any) -> None:
    given = lay(tmp_path / "s", "coco", coco([flat(P)], [flat([[1, 1], [5, 1], [9, 1]])]))
    assert table(given, tmp_path, heard).startswith("a.jpg,1,38 5")
    assert f"note: 1 shape covers no pixel, first {given}, image a.jpg, annotation 2" in heard.lines
