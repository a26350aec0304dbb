from conftest_recorders import box, market, real_candles, recorder, running  # noqa: F401
