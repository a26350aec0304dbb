from conftest_recorders import box, market, recorder, running  # noqa: F401
