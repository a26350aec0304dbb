from conftest_transfer import other, write  # noqa: F401
