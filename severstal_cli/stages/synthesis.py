"""`synth`: write a synthetic set of steel images."""

from severstal_cli.config import SynthConfig
from severstal_cli.progress import SILENT, Progress
from severstal_cli.steel.synth import write_synthetic_set


def synthesise(config: SynthConfig, progress: Progress = SILENT) -> None:
    """Draw the set and write it. Raises InputError and OutputError as `write_synthetic_set` does."""
    write_synthetic_set(
        config.out,
        seed=config.seed,
        images=config.images,
        test_images=config.test_images,
        size=config.size,
        annotations=config.annotations,
        image_list=config.image_list,
        progress=progress,
    )
