"""The verbs: ``zvt-crypto record``, ``query``, ``chart`` and so on, one file each in ``verbs``.

Importing this package loads click and nothing heavier; what a verb needs, it imports when it runs.
"""

from zvt_crypto.cli.app import main

__all__ = ["main"]
