from conftest_recorders import market, real_candles, recorder  # noqa: F401
