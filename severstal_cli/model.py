"""Trained runs in Python and notebooks: images in, masks out, by the code of `severstal predict`."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from severstal_cli.config.checks import check
from severstal_cli.errors import InputError
from severstal_cli.files import nfc
from severstal_cli.learning.device import open_device
from severstal_cli.learning.finite import NotFiniteError
from severstal_cli.learning.inference import engines, ensemble, level_maps, pipeline, runtimes
from severstal_cli.learning.inference.inputs import bits_in_use
from severstal_cli.learning.runs.model_card import class_names_of
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel import drawing
from severstal_cli.steel.images.decoding import FULL_DEPTH, cv2, read_grey
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.tables import confidence
from severstal_cli.steel.tables.shards import shard_size

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZE = 8
"""Images per batch, as by default in `severstal predict`."""


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one image. A notebook shows it as the image with its masks."""

    image: NDArray[np.uint8]
    """`(H, W)`, grey: what the network was given."""
    levels: NDArray[np.uint8]
    """`(C, H, W)`: probabilities quantised to uint8, which thresholds are applied to."""
    confidence: tuple[float, ...]
    """Expected Dice of the mask of each class, as in `submission.scores.csv`."""
    path: Path | None
    """The file of the image; None where an array was given."""
    _masks: tuple[rle.RLE, ...]

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """`(C, H, W)`: one mask per class, after post-processing."""
        return np.stack([rle.decode(mask, self.image.shape) for mask in self._masks])

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """`(C, H, W)`, from 0 to 1 in steps of 1/255."""
        return self.levels.astype(np.float32) / np.float32(255)

    def rle(self) -> list[str]:
        """The RLE of each class, as `submission.csv` has it; "" for an empty mask."""
        return [rle.to_text(mask) for mask in self._masks]

    def overlay(self) -> NDArray[np.uint8]:
        """`(H, W, 3)` RGB: the image with the outlines of its masks, in the colours of `predict --masks`."""
        return np.ascontiguousarray(drawing.overlay(self.image, self._masks)[:, :, ::-1])

    def _repr_png_(self) -> bytes:
        return drawing.to_png(drawing.overlay(self.image, self._masks))

    def __repr__(self) -> str:
        height, width = self.image.shape
        found = [f"class {k}: {rle.area(mask):,} px" for k, mask in enumerate(self._masks, start=1) if len(mask)]
        return f"Prediction({height} x {width}, {', '.join(found) or 'no defect'})"


class Model:
    """Trained runs, ready to predict, alone or as an ensemble."""

    def __init__(self, recipe: ensemble.Ensemble, members: list[runtimes.Probs], fabric: Fabric, log: Progress) -> None:
        self._recipe, self._members, self._fabric, self._progress = recipe, members, fabric, log
        self.runs = recipe.folders
        self.thresholds = recipe.thresholds
        self.tta = recipe.views
        self.classes = recipe.cards[0].classes
        self.class_names = class_names_of(recipe.cards)

    @classmethod
    def load(
        cls,
        *runs: Path | str,
        thresholds: Path | str | None = None,
        tta: str | None = None,
        weights: Sequence[float] = (),
        engine: str = "auto",
        progress: Progress = SILENT,
    ) -> "Model":
        """Load runs, by their folders; several are averaged. The options are those of `severstal predict`.

        Raises:
            InputError: no run, one twice, or runs, weights or TTA views that do not go together.
            RunError: a folder is no run, is damaged or has no thresholds.
            MachineError: the engine is not installed.
        """
        rules = None if thresholds is None else Path(thresholds)
        if not runs:
            raise InputError("no run to load", "", "Name its folder: Model.load('models/NAME')")
        made = ensemble.read(tuple(map(Path, runs)), thresholds=rules, views=tta, weights=weights)
        for note in made.notes():
            progress.log(note)
        fabric = open_device()
        members = engines.load_members(made.folders, made.cards, fabric, engine=engine, progress=progress)
        return cls(made, members, fabric, progress)

    def predict(self, image: NDArray[np.uint8] | Path | str) -> Prediction:
        """Predict one image: a file, or an array `(H, W)` grey or `(H, W, 3)` RGB, uint8.

        Raises InputError: the file cannot be read, or the array has another shape or type. RunError: probabilities are
        not finite.
        """
        if isinstance(image, str | Path):
            with closing(self.predict_many([image])) as found:
                return next(found)
        grey = _grey(image)
        try:
            (levels,) = self._levels(BATCH_SIZE, [grey])
        except NotFiniteError as error:
            raise error.of(self.runs[error.member], "this array") from None
        return self._finish(None, grey, levels)

    def predict_many(
        self, paths: Iterable[Path | str], *, batch_size: int = BATCH_SIZE
    ) -> Generator[Prediction, None, None]:
        """Predict image files, in order, while later ones are decoded: the masks of `severstal predict` on them.

        Raises InputError at a file that cannot be read, or if `paths` is one path or `batch_size` below 1. RunError:
        probabilities are not finite.
        """
        if isinstance(paths, str | Path):
            raise InputError("predict_many takes a list of files", str(paths), "Give a list, or use predict")
        check(batch_size >= 1, "batch size", batch_size, "at least 1")
        files = [Path(path) for path in paths]
        if not files:
            return
        bits = bits_in_use(files, self._recipe.cards, self._progress) or FULL_DEPTH
        size = shard_size(len(files))
        groups = [files[begin : begin + size] for begin in range(0, len(files), size)]
        results = pipeline.from_files(
            groups,
            partial(self._levels, batch_size),
            lambda path, levels: self._finish(path, read_grey(path, bits), levels),
            batch_size=batch_size,
            bits=bits,
            runs=self.runs,
        )
        with closing(results):
            for _, found in results:
                if isinstance(found, InputError):
                    raise found
                yield found

    def predict_table(self, paths: Iterable[Path | str], *, batch_size: int = BATCH_SIZE) -> "pd.DataFrame":
        """Predict image files as `predict_many`: a row per image and class, the tables that `severstal predict` writes.

        Columns: ImageId, the name of the file; ClassId; EncodedPixels, "" for an empty mask; Pixels of the mask;
        Score, its confidence. Raises as `predict_many` does.
        """
        import pandas as pd

        rows = [
            (nfc(found.path.name) if found.path else "", class_id, rle.to_text(mask), rle.area(mask), score)
            for found in self.predict_many(paths, batch_size=batch_size)
            for class_id, (mask, score) in enumerate(zip(found._masks, found.confidence, strict=True), start=1)
        ]
        return pd.DataFrame(rows, columns=["ImageId", "ClassId", "EncodedPixels", "Pixels", "Score"])

    def _levels(self, batch_size: int, images: Iterable[NDArray[np.uint8] | None]) -> Iterator[NDArray[np.uint8]]:
        recipe = self._recipe
        return level_maps.predict_levels(
            self._members,
            images,
            self._fabric,
            views=recipe.views,
            batch_size=batch_size,
            weights=recipe.weights,
            exclusive=recipe.thresholds.exclusive,
        )

    def _finish(self, path: Path | None, image: NDArray[np.uint8], levels: NDArray[np.uint8]) -> Prediction:
        masks = postprocess.levels_to_rle(levels, self.thresholds.rules)
        return Prediction(image, levels, tuple(confidence.expected_dice(levels, masks)), path, tuple(masks))

    def __repr__(self) -> str:
        return f"Model({', '.join(map(str, self.runs))}; {self.classes} classes, TTA {self.tta})"


def _grey(image: Any) -> NDArray[np.uint8]:
    """`(H, W)` of a grey or RGB array. Raises InputError.

    True colours may differ by one level from those of a PNG file, for which libpng rounds down.
    """
    shape, kind = getattr(image, "shape", ()), getattr(image, "dtype", type(image).__name__)
    if kind != np.uint8 or 0 in shape or (len(shape) != 2 and shape[2:] != (3,)):
        raise InputError(
            "an image must be (H, W) or (H, W, 3) uint8", f"{shape} {kind}", "Convert it, or give the path of a file"
        )
    array = np.ascontiguousarray(image)
    return array if len(shape) == 2 else np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY), np.uint8)
