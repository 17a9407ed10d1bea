"""The README.md of a bundle: the commands of Kaggle's own tool that upload, run and submit it."""

from pathlib import Path

from severstal_cli.kaggle import names

NOBODY = "INSERT_USERNAME_HERE"
"""Placeholder for an unknown Kaggle account, as in Kaggle's own tool."""


def write_readme(path: Path, slug: str, user: str | None, competition: str) -> None:
    """Write the commands for the bundle `slug`. `user`: the account; None: unknown."""
    name = names.notebook_of(slug)
    lines = HOW.format(user=user or NOBODY, slug=slug, name=name, competition=competition)
    if user is None:
        lines = f"{NO_USER}\n{lines}"
    path.write_text(lines, encoding="utf-8", newline="\n")


NO_USER = f"""First replace {NOBODY} by the name of your Kaggle account (the one in the address of your profile): in
this file, in dataset/dataset-metadata.json, and twice in kernel/kernel-metadata.json. Or write this folder again with
--user.
"""

HOW = """Run these commands of Kaggle's own tool (pip install kaggle six) in this folder. The tool needs a token, as
severstal does.

    kaggle datasets create -p dataset --dir-mode zip
    kaggle datasets status {user}/{slug}

Without --dir-mode zip, the tool skips folders. The dataset is private. Continue when its status is ready. If a dataset
of this name exists, make a new version instead:

    kaggle datasets version -p dataset --dir-mode zip -m again

Then run the notebook. Wait until its status is COMPLETE and its files include submission.csv with a size above 0: a
submission before that fails, and counts against the day's allowance.

    kaggle kernels push -p kernel
    kaggle kernels status {user}/{name}
    kaggle kernels files {user}/{name}

`push` prints the version of the notebook. Submit it, here version 1:

    kaggle competitions submit {competition} -k {user}/{name} -v 1 -f submission.csv -m {slug}
    kaggle competitions submissions {competition}

If the notebook's log reports that severstal-bundle.json is missing, the dataset was not mounted yet: push the notebook
again after some minutes.
"""
