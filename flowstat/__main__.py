"""`python -m flowstat` is the `flowstat` command."""

from flowstat.cli import main

if __name__ == "__main__":
    main()
