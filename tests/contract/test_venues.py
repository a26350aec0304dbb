"""Every venue, every kind of market, every level, through the real ccxt client over a socket."""

import pyarrow as pa
import pytest
from places import NOW, PLACES, symbol_of, venue_of

from zvt_crypto.core.errors import DataQualityFailure, ProviderUnavailable, RateLimitExceeded, RegionBlocked
from zvt_crypto.core.levels import level_ms, parse_time
from zvt_crypto.core.symbols import parse_symbol
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata
from zvt_crypto.exchanges.paging import fetch_window
from zvt_crypto.store.writer import check

assert kdata
#: Columns of candles that a venue does not give.
NOT_GIVEN = {
    "coinbase": ("turnover",),
    "cryptocom": ("turnover",),
    ("kraken", "cryptoperp"): ("turnover",),
    "ccxt:bitget": ("turnover",),
    "ccxt:gate": ("turnover",),
}
#: Columns that follow from a rounded one: Kraken's turnover from its average price.
ROUNDED = {("kraken", "cryptopair", "turnover"): 1e-6}
#: Every answer holds all candles that there are, so one that repeats holds what was asked for too.
WHOLE = {("kraken", "cryptopair")}
#: Full pages that take several requests: Bitget answers at most 90 days of a contract at once.
SPLIT = {("ccxt:bitget", "cryptoperp", "1d")}
SERIES = [
    (name, kind, spec)
    for name, kind in PLACES
    for spec in tables.values()
    if spec.feed == "candles"
    and spec.entity_type == kind
    and spec.level in venue_of(name).capabilities.levels
]


def window(start, end, step, level):
    async def use(venue, instrument):
        async def fetch_page(lower, upper):
            return await venue.fetch_candle_page(instrument, level, lower, upper)

        return await fetch_window(fetch_page, start, end, step)

    return use


@pytest.mark.parametrize(("name", "kind", "spec"), SERIES, ids=lambda v: getattr(v, "name", v))
def test_a_full_page_has_the_markets_rows_and_the_tables_schema(with_venue, market, name, kind, spec):
    step = level_ms(spec.level)
    end = NOW - NOW % step
    start = end - venue_of(name).capabilities.candle_page[kind] * step
    fetched = with_venue(name, kind, window(start, end, step, spec.level))
    assert fetched.batch.schema.names == spec.schema.names
    checked = check(spec, fetched.batch)
    assert not checked.rejected
    wanted = market.candles(symbol_of(name, kind), spec.level, start, end).table()
    assert checked.batch["ts"].to_pylist() == wanted["ts"].to_pylist()
    in_one = wanted.num_rows == (end - start) // step and (name, kind, spec.level) not in SPLIT
    assert fetched.requests == 1 if in_one else fetched.requests > 1
    for column in ("open", "high", "low", "close", "volume", "turnover"):
        if column in NOT_GIVEN.get(name, NOT_GIVEN.get((name, kind), ())):
            assert checked.batch[column].null_count == checked.batch.num_rows
            continue
        close = pytest.approx(wanted[column].to_pylist(), rel=ROUNDED.get((name, kind, column), 1e-9))
        assert checked.batch[column].to_pylist() == close, column


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_old_candles_and_an_empty_past(with_venue, market, name, kind):
    """As far back as the venue's candles reach, up to four months and to years before the listing."""
    step, day = level_ms("1h"), level_ms("1d")
    reach = venue_of(name).capabilities.candle_reach.get(kind, NOW // step)
    start = max(parse_time("2024-02-01"), NOW - NOW % step - (reach - 1) * step)
    old = with_venue(name, kind, window(start, start + 200 * step, step, "1h"))
    assert old.batch.num_rows == 200
    before = parse_time("2010-01-01")
    if before < NOW - (reach - 1) * day:
        return
    past = with_venue(name, kind, window(before, before + 100 * day, day, "1d"))
    assert past.batch.num_rows == 0 and past.empty_confirmed and past.requests == 2


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_the_unfinished_candle_is_not_among_what_was_asked(with_venue, name, kind):
    step = level_ms("1h")
    end = NOW - NOW % step
    fetched = with_venue(name, kind, window(end - 5 * step, end, step, "1h"))
    assert max(fetched.batch["ts"].to_pylist()) == end - step


@pytest.mark.parametrize("fault", ["duplicate", "reorder"])
@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_disorder_is_put_right(with_venue, market, name, kind, fault):
    step = level_ms("1h")
    end = NOW - NOW % step
    fetched = with_venue(name, kind, window(end - 90 * step, end, step, "1h"), faults=[fault])
    ordered = check(tables[f"{kind}_1h_kdata"], fetched.batch).batch
    assert (
        ordered["ts"].to_pylist()
        == market.candles(symbol_of(name, kind), "1h", end - 90 * step, end).table()["ts"].to_pylist()
    )


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_a_page_that_repeats_is_named(with_venue, market, name, kind):
    step = level_ms("1h")
    end = NOW - NOW % step

    async def use(venue, instrument):
        await window(end - 50 * step, end, step, "1h")(venue, instrument)
        return await window(end - 150 * step, end - 100 * step, step, "1h")(venue, instrument)

    if (name, kind) in WHOLE:
        wanted = market.candles(symbol_of(name, kind), "1h", end - 150 * step, end - 100 * step)
        assert with_venue(name, kind, use, faults=["repeat"]).batch["ts"].to_pylist() == wanted.ts.tolist()
        return
    with pytest.raises(DataQualityFailure, match="same page again"):
        with_venue(name, kind, use, faults=["repeat"])


PASSING = ["status:429,times=2,retry_after=0.02", "status:503,times=2", "html:502,times=2", "cut,times=2",
           "cut:close,times=2", "empty,times=2", "disconnect,times=2", "maintenance,times=2", "empty_rows,times=1"]  # fmt: skip


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_what_passes_is_retried(with_venue, name, kind, fault):
    step = level_ms("1h")
    end = NOW - NOW % step
    fetched = with_venue(name, kind, window(end - 10 * step, end, step, "1h"), faults=[fault])
    assert fetched.batch.num_rows == 10


LASTING = {
    "status:429,retry_after=0.01": RateLimitExceeded,
    "status:418,retry_after=0.01": RateLimitExceeded,
    "status:451": RegionBlocked,
    "status:500": ProviderUnavailable,
    "html:200": ProviderUnavailable,
    "empty": ProviderUnavailable,
    "maintenance": ProviderUnavailable,
    "disconnect": ProviderUnavailable,
}


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_what_lasts_is_named_after_the_attempts(with_venue, box, name, kind, fault):
    step = level_ms("1h")
    end = NOW - NOW % step
    before = []

    async def use(venue, instrument):
        before.append(len(box.requests))
        return await window(end - 10 * step, end, step, "1h")(venue, instrument)

    with pytest.raises(LASTING[fault]) as caught:
        with_venue(name, kind, use, faults=[fault], attempts=2)
    made = len(box.requests) - before[0]
    # The HTTP library itself asks once more where a kept-alive connection was closed.
    assert made == {"status:451": 1}.get(fault, 2) or (fault == "disconnect" and made <= 4)
    line = caught.value.one_line()
    assert "\n" not in line and len(line) < 600 and "http://" not in line


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_symbols_round_trip(with_venue, name, kind):
    async def use(venue, instrument):
        return (await venue.fetch_instruments(kind)).batch.to_pylist()

    rows = with_venue(name, kind, use)
    for row in rows:
        assert parse_symbol(row["symbol"]).code == row["code"]
        assert parse_symbol(row["symbol"]).entity_type == kind
    assert len({row["code"] for row in rows}) == len(rows) > 3


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_listing_is_the_first_day(with_venue, market, name, kind):
    async def use(venue, instrument):
        return await venue.find_listing(instrument)

    days = market.candles(symbol_of(name, kind), "1d", 0, NOW).table()["ts"]
    assert with_venue(name, kind, use) == days[0].as_py()


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_the_exchanges_clock_counts(with_venue, box, name, kind):
    async def use(venue, instrument):
        return await venue.client.now(kind)

    assert abs(with_venue(name, kind, use) - NOW) < 5_000


def test_candle_schema_is_the_same_in_every_venue():
    schemas = {tuple(spec.schema.names) for _, _, spec in SERIES}
    assert len(schemas) == 1 and pa.schema(SERIES[0][2].schema).names[0] == "ts"
