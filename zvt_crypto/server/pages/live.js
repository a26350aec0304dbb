// The live part of the page at "/": trades and candles of one market over /ws, from when it is started.
// What exchanges send enters the page as text, never as markup.

const TAPE_ROWS = 20;
const MOST_CANDLES = 40;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30000;
// The server says something every 15 seconds.
const SILENCE_MS = 45000;
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 400;
const HEIGHT = 160;

/** Make the section work; the tools are the page's own. */
export function startLive({ byId, setText, setCells, rowFor, ask }) {
  const tape = document.querySelector("#live-tape tbody");
  const live = {
    isWanted: false,
    socket: null,
    timer: null,
    attempt: 0,
    heard: 0,
    wanted: null,
    places: {},
    states: new Map(),
    trades: [],
    candles: new Map(),
    isDrawing: false,
  };

  function say(state, text) {
    byId("live").dataset.state = state;
    setText(byId("live-status"), text);
  }

  // ---- the connection

  function connect() {
    clearTimeout(live.timer);
    if (!live.isWanted || document.hidden) return;
    say("waiting", "Connecting");
    const url = new URL("ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = url.hash = "";
    const socket = new WebSocket(url);
    live.socket = socket;
    live.heard = Date.now();
    socket.addEventListener("open", () => subscribe(socket));
    socket.addEventListener("message", ({ data }) => {
      if (socket === live.socket) receive(JSON.parse(data));
    });
    socket.addEventListener("close", ({ reason }) => {
      if (socket === live.socket) lost(reason);
    });
  }

  function subscribe(socket) {
    const { provider, symbol, interval } = live.wanted;
    const symbols = [symbol];
    const streams = [
      { stream: "crypto.trades", provider, symbols },
      { stream: "crypto.klines", provider, symbols, interval },
    ];
    socket.send(JSON.stringify({ method: "subscribe", id: 1, params: { streams, resume: live.places } }));
  }

  function lost(reason) {
    live.socket = null;
    live.states.clear();
    if (!live.isWanted || document.hidden) return;
    live.attempt += 1;
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** live.attempt);
    const wait = Math.random() * longest;
    const why = reason ? `: ${reason}.` : ".";
    say("lost", `Not connected${why} What is shown is not live. Trying again within ${Math.ceil(longest / 1000)} s.`);
    live.timer = setTimeout(connect, wait);
  }

  function hangUp() {
    clearTimeout(live.timer);
    const socket = live.socket;
    live.socket = null;
    socket?.close();
  }

  /** A connection that TCP does not know to be dead. */
  setInterval(() => {
    if (live.socket && Date.now() - live.heard > SILENCE_MS) {
      hangUp();
      lost("the server says nothing");
    }
  }, 5000);

  // ---- messages

  const keyOf = (message) =>
    [message.stream, message.provider, message.symbol, message.interval].filter(Boolean).join(":");

  function receive(message) {
    live.heard = Date.now();
    if (message.error) return refused(message.error);
    if (message.event === "subscribed") return subscribed(message);
    if (!message.sequence) return;
    const key = keyOf(message);
    if (live.places[key]) live.places[key].sequence = message.sequence;
    if (message.event === "live" || message.event === "disconnected") {
      live.states.set(key, message.event);
      showState(message.reason);
    } else if (message.stream === "crypto.trades" && message.data) {
      live.trades.unshift(message.data);
      live.trades.length = Math.min(live.trades.length, TAPE_ROWS);
      draw();
    } else if (message.data) {
      live.candles.set(message.data.timestamp, message.data);
      draw();
    }
  }

  function subscribed({ subscriptions, errors }) {
    if (errors.length) return refused(errors[0]);
    live.attempt = 0;
    for (const { key, epoch, sequence, state } of subscriptions) {
      const known = live.places[key];
      live.places[key] = { epoch, sequence: known?.epoch === epoch ? known.sequence : sequence };
      live.states.set(key, state);
    }
    showState();
  }

  function refused({ message, recovery_suggestions: advice }) {
    stop();
    say("refused", [message, ...advice].join(". "));
  }

  function showState(reason) {
    const states = [...live.states.values()];
    const { provider, symbol } = live.wanted;
    if (states.includes("disconnected")) {
      say("lost", `${provider} is interrupted${reason ? `: ${reason}` : ""}. What is shown is not live.`);
    } else if (states.includes("waiting")) {
      say("waiting", `Waiting for ${provider}`);
    } else {
      say("live", `${symbol} of ${provider} is live`);
    }
  }

  // ---- drawing, at most once for each picture of the screen

  function draw() {
    if (live.isDrawing) return;
    live.isDrawing = true;
    requestAnimationFrame(() => {
      live.isDrawing = false;
      drawTape();
      drawCandles();
    });
  }

  function drawTape() {
    while (tape.rows.length > live.trades.length) tape.rows[tape.rows.length - 1].remove();
    live.trades.forEach((trade, position) => {
      const row = tape.rows[position] ?? tape.appendChild(rowFor(tape, ""));
      setText(row.cells[0], trade.timestamp.slice(11, 23));
      setCells(row, [trade.side ?? "", String(trade.price), String(trade.volume)]);
      row.className = trade.side ?? "";
    });
  }

  function drawCandles() {
    const times = [...live.candles.keys()].sort();
    for (const time of times.splice(0, times.length - MOST_CANDLES)) live.candles.delete(time);
    const candles = times.map((time) => live.candles.get(time));
    const last = candles.at(-1);
    if (!last) return;
    const state = last.is_partial ? "under way, its beginning is missing" : last.is_closed ? "closed" : "under way";
    const { open, high, low, close, volume } = last;
    const text = `${minuteOf(last)} UTC, ${state}: open ${open}, high ${high}, low ${low}, close ${close}, volume ${volume}`;
    setText(byId("live-candle"), text);
    const top = Math.max(...candles.map((candle) => candle.high));
    const bottom = Math.min(...candles.map((candle) => candle.low));
    const y = (price) => 4 + ((top - price) / (top - bottom || 1)) * (HEIGHT - 8);
    const step = WIDTH / MOST_CANDLES;
    // The newest is at the right.
    const left = (MOST_CANDLES - candles.length) * step;
    const pictures = candles.flatMap((candle, position) => picture(candle, left + position * step, step, y));
    byId("live-candles").replaceChildren(...pictures);
    byId("live-candles").setAttribute("aria-label", `Candles since the start; the newest: ${text}`);
  }

  const minuteOf = (candle) => candle.timestamp.slice(0, 16).replace("T", " ");

  /** A candle's wick and body. */
  function picture(candle, x, step, y) {
    const [first, last] = [candle.open, candle.close].map(y);
    const kind = `${candle.close >= candle.open ? "rise" : "fall"}${candle.is_partial ? " partial" : ""}`;
    return [
      rectangle(kind, x + step / 2 - 0.5, y(candle.high), 1, y(candle.low) - y(candle.high)),
      rectangle(kind, x + 1, Math.min(first, last), step - 2, Math.max(1, Math.abs(first - last))),
    ];
  }

  function rectangle(className, x, top, width, height) {
    const rect = document.createElementNS(SVG, "rect");
    const values = { class: className, x, y: top, width, height };
    for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value);
    return rect;
  }

  // ---- what people choose

  function begin() {
    hangUp();
    live.wanted = {
      provider: byId("live-provider").value,
      symbol: byId("live-symbol").value.trim(),
      interval: byId("live-interval").value,
    };
    Object.assign(live, { isWanted: true, attempt: 0, places: {}, trades: [], candles: new Map() });
    live.states.clear();
    tape.replaceChildren();
    byId("live-candles").replaceChildren();
    setText(byId("live-candle"), "");
    setText(byId("live-switch"), "Stop");
    byId("live-shown").hidden = false;
    connect();
  }

  function stop() {
    live.isWanted = false;
    hangUp();
    setText(byId("live-switch"), "Start");
    say("stopped", "Stopped. What is shown is not live.");
  }

  byId("live-switch").addEventListener("click", () => {
    if (live.isWanted) stop();
    else begin();
  });
  byId("live-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!live.isWanted) begin();
  });
  for (const id of ["live-provider", "live-symbol", "live-interval"]) {
    byId(id).addEventListener("change", () => {
      if (live.isWanted) begin();
    });
  }
  // Nobody looks: nothing is asked for; what was missed is there when somebody does again.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hangUp();
    else connect();
  });

  /** Show the section, with the providers that are streamed, the first time. */
  return async function show(provider, symbol) {
    if (!byId("live").hidden) return;
    const found = await ask("api/crypto/providers/capabilities");
    const names = Object.keys(found).filter((name) => found[name].websocket_endpoints.includes("trades"));
    byId("live-provider").replaceChildren(...names.map((name) => new Option(name, name, false, name === provider)));
    byId("live-symbol").value = symbol;
    byId("live").hidden = names.length === 0;
  };
}
