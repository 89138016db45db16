"""`python -m xpnet` is `xpnet`."""

from xpnet.cli import main

if __name__ == "__main__":
    main()
