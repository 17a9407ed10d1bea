"""The README.md of a bundle: the commands of Kaggle's own tool, for whoever goes on by hand."""

from pathlib import Path

from severstal_cli.kaggle import names

NOBODY = "INSERT_USERNAME_HERE"
"""Stands for the Kaggle account where it is not known; the word that Kaggle's own tool uses."""


def write_readme(path: Path, slug: str, user: str | None, competition: str) -> None:
    """Write the commands that take a bundle from `slug` to its scores. `user`: the account, None: not known."""
    name = names.notebook_of(slug)
    lines = HOW.format(user=user or NOBODY, slug=slug, name=name, competition=competition)
    if user is None:
        lines = f"{NO_USER}\n{lines}"
    path.write_text(lines, encoding="utf-8", newline="\n")


NO_USER = f"""Put the name of your Kaggle account (the one in the address of your profile) in place of {NOBODY} first,
here, in dataset/dataset-metadata.json and twice in kernel/kernel-metadata.json: or write this folder again with --user.
"""

HOW = """Run these with Kaggle's own tool (pip install kaggle six), in this folder. It needs a token, as severstal does.

    kaggle datasets create -p dataset --dir-mode zip
    kaggle datasets status {user}/{slug}

Without --dir-mode zip it leaves folders out. The dataset is private. Go on once its status is ready; where there is one
of this name already, make a new version instead:

    kaggle datasets version -p dataset --dir-mode zip -m again

Then run the notebook, and wait until its status is COMPLETE and submission.csv is among its files:

    kaggle kernels push -p kernel
    kaggle kernels status {user}/{name}
    kaggle kernels files {user}/{name}

`push` tells the version of the notebook. Submit it, here version 1:

    kaggle competitions submit {competition} -k {user}/{name} -v 1 -f submission.csv -m {slug}
    kaggle competitions submissions {competition}

Where the notebook says that it has no severstal-bundle.json, the dataset was not mounted yet: push it again after some
minutes.
"""
