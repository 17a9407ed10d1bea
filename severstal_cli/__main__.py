"""`python -m severstal_cli` is the `severstal` command."""

from severstal_cli.cli import main

if __name__ == "__main__":
    main()
