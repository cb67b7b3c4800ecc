"""`python -m whet` is the command `whet`."""

from whet.cli import main

if __name__ == "__main__":
    main()
