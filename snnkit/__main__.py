"""``python -m snnkit`` is the `snnkit` command."""

from .cli import main

if __name__ == "__main__":
    main()
