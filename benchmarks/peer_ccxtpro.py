"""ccxt.pro: a client of it that is not connected is given frames one by one."""

from __future__ import annotations

#: Trades a second, as ccxt collects them.
TRADES = """
import asyncio
import ccxt.pro

venue = json.load(open(sys.argv[1]))
URLS = {"binance": "wss://stream.binance.com:9443/ws", "binanceusdm": "wss://fstream.binance.com/ws"}

def market(native, symbol):
    base, _, rest = symbol.partition("/")
    quote, _, settle = rest.partition(":")
    names = {"base": base, "quote": quote, "baseId": base, "quoteId": quote, "precision": {}, "limits": {}}
    kind = {"type": "swap" if settle else "spot", "spot": not settle, "swap": bool(settle), "contract": bool(settle)}
    kind |= {"future": False, "option": False, "settle": settle or None, "contractSize": 1.0 if settle else None}
    kind |= {"linear": settle == quote, "inverse": settle == base} if settle else {}
    return {"id": native, "symbol": symbol, "active": True, "info": {}, **names, **kind}

async def measure():
    exchange = getattr(ccxt.pro, venue["ccxt"])()
    exchange.set_markets([market(native, symbol) for native, symbol, _ in venue["markets"]])
    client = exchange.client(URLS.get(venue["ccxt"], "wss://ws.kraken.com/v2"))
    # ccxt subscribes where Binance does not wrap its messages.
    frames = [frame.split('"data":', 1)[1][:-1] if '"stream":' in frame else frame for frame in venue["trades"]]
    for frame in frames:
        client.handle_text_or_binary_message(frame)
    began = time.process_time()
    for _ in range(int(sys.argv[2])):
        for frame in frames:
            client.handle_text_or_binary_message(frame)
    seconds = time.process_time() - began
    assert sum(map(len, exchange.trades.values())) > 0
    await exchange.close()
    return seconds

seconds = asyncio.run(measure())
facts["rate"] = int(sys.argv[2]) * int(sys.argv[3]) / seconds
"""
