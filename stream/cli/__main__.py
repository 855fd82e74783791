"""`python -m stream.cli` is `foreshock`."""

from stream.cli import main

if __name__ == "__main__":
    main()
