"""What tests of a venue's streams do with its frames, whichever venue it is."""

import asyncio
import json

from zvt_crypto.exchanges.streaming import Candles, Trades


def reader_of(streams, *topics):
    """A reader that expects topics."""
    reader = streams.reader()
    reader.expect(topics)
    return reader


def messages_of(streams, topics, frames):
    """What a new connection's reader makes of frames: texts, or values that are sent as JSON."""
    reader = reader_of(streams, *topics)
    texts = (
        frame if isinstance(frame, str) else json.dumps(frame, separators=(",", ":")) for frame in frames
    )
    return [message for text in texts for message in reader.read(text)]


def table_of(streams, messages):
    """The rows of messages with trades or candles of one topic, as columns."""
    topic = messages[0].topic
    assert {type(message) for message in messages} <= {Trades, Candles}
    assert all(message.topic is topic for message in messages)
    rows = [row for message in messages for row in message.rows]
    if topic.feed == "trades":
        return streams.trades(topic.instrument, rows)
    return streams.candles(topic.instrument, topic.level, rows)


def apply(book, update):
    """Change a book, which is two dicts from price to level, as an update says."""
    if update.is_snapshot:
        book.clear()
        book.update(bids={}, asks={})
    for side in ("bids", "asks"):
        for level in getattr(update, side):
            if level[1] == 0:
                book[side].pop(level[0], None)
            else:
                book[side][level[0]] = level


def renamed(value, path):
    """A copy of what JSON holds with one field, or one item's field, under another name."""
    changed = json.loads(json.dumps(value))
    *way, name = path
    place = changed
    for step in way:
        place = place[step]
    place[f"{name}_"] = place.pop(name)
    return changed


class Sent(Exception):
    """Where ccxt would have sent what."""

    def __init__(self, url, frame):
        super().__init__(url, frame)
        self.url, self.frame = url, frame


def sent_by_ccxt(exchange_id, market, call, *args, **params):
    """The URL and the frame of a call of one of ccxt.pro's classes that knows one market."""
    import ccxt.pro  # here, as it is large: most tests have ccxt load only what they use

    class Recording(getattr(ccxt.pro, exchange_id)):
        async def watch_multiple(self, url, hashes, frame=None, *rest):
            raise Sent(url, frame)

        async def authenticate(self, params=None):
            """Public channels need none."""

    async def run():
        exchange = Recording()
        exchange.set_markets([market])
        try:
            await getattr(exchange, call)(*args, params=params)
        except Sent as sent:
            return sent.url, sent.frame
        finally:
            await exchange.close()

    return asyncio.run(run())
