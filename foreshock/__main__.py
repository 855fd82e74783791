"""`python -m foreshock` is `foreshock`."""

from foreshock import main

if __name__ == "__main__":
    main()
