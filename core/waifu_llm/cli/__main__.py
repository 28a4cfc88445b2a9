"""`python -m waifu_llm.cli`, where the console script is not on the path."""

import sys

from waifu_llm.cli import main

if __name__ == "__main__":
    sys.exit(main())
