"""``python -m zvt_crypto.cli``."""

from zvt_crypto.cli.app import main

if __name__ == "__main__":
    main()
