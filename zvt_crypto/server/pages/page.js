// The page at "/": asks the server every few seconds while it is looked at, and shows what changed.
// Everything that was recorded enters the page as text, never as markup.

const POLL_MS = 3000;
const TIMEOUT_MS = 20000;
const STATUS_EVERY = 5;
const PAGE_OF_SYMBOLS = 50;
const LEVEL_MS = { "1m": 60e3, "5m": 300e3, "15m": 900e3, "30m": 1800e3, "1h": 3600e3, "4h": 14400e3, "1d": 86400e3 };
const SVG = "http://www.w3.org/2000/svg";
const STRIP_WIDTH = 1000;
const STRIP_HEIGHT = 10;
const NARROWEST_GAP = 3;
const LOWEST_GAP = 3;
const TABLE_ROWS = 50;

const byId = (id) => document.getElementById(id);
const number = (value) => (value === null || value === undefined ? "" : value.toLocaleString("en"));
const minute = (ms) => (ms === null || ms === undefined ? "" : new Date(ms).toISOString().slice(0, 16).replace("T", " "));
const keyOf = (table) => `${table.provider}/${table.table}`;

const state = {
  overview: null,
  exchanges: new Map(),
  polls: 0,
  coverage: { key: "", search: "", offset: 0 },
  chart: { key: "", symbol: "", level: "", count: 300, end: null, symbols: [], seen: "", drawn: "" },
};

// ---- asking the server

class Refused extends Error {
  constructor(error) {
    super(error.message);
    this.advice = (error.recovery_suggestions ?? []).join("; ");
  }
}

class Unreachable extends Error {}

async function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== "");
  const query = new URLSearchParams(given).toString();
  let answer, body;
  try {
    answer = await fetch(query ? `${path}?${query}` : path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    body = await answer.json();
  } catch (error) {
    throw new Unreachable(String(error));
  }
  if (!answer.ok) throw new Refused(body.error);
  return body;
}

// ---- building and updating elements

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The rows of a table's body, one for each item and kept while its key stays, with what has the focus. */
function showRows(body, items, key, build, update) {
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  items.forEach((item, position) => {
    const name = key(item);
    let row = old.get(name);
    old.delete(name);
    if (!row) {
      row = build(item);
      row.dataset.key = name;
    }
    if (body.rows[position] !== row) body.insertBefore(row, body.rows[position] ?? null);
    update(row, item);
  });
  for (const row of old.values()) row.remove();
}

/** A row of a table whose first cell is its header; names and classes of the cells are those of the columns. */
function rowFor(body, head) {
  const row = make("tr");
  row.setAttribute("role", "row");
  [...body.closest("table").tHead.rows[0].cells].forEach((column, position) => {
    const cell = make(position === 0 ? "th" : "td", { className: column.className });
    cell.setAttribute("role", position === 0 ? "rowheader" : "cell");
    if (position === 0) {
      cell.scope = "row";
      cell.append(head);
    } else {
      cell.dataset.label = column.textContent;
    }
    row.append(cell);
  });
  return row;
}

function setCells(row, texts) {
  texts.forEach((text, position) => setText(row.cells[position + 1], text));
}

/** Choices of a select as [value, label]; the chosen one stays if it is still there. */
function showChoices(select, choices, chosen) {
  const wanted = JSON.stringify(choices);
  if (select.dataset.shown !== wanted) {
    select.dataset.shown = wanted;
    select.replaceChildren(...choices.map(([value, label]) => make("option", { value, textContent: label })));
  }
  if (select.value !== chosen) select.value = chosen;
}

// A table whose rows are shown as blocks on a phone is a table to a screen reader all the same.
for (const table of document.querySelectorAll("table")) {
  table.setAttribute("role", "table");
  for (const part of [table.tHead, ...table.tBodies]) part.setAttribute("role", "rowgroup");
  table.tHead.rows[0].setAttribute("role", "row");
  for (const cell of table.tHead.rows[0].cells) cell.setAttribute("role", "columnheader");
}

// ---- providers and tables

function ago(ms) {
  if (ms === null) return "";
  const seconds = Math.max(0, Math.round((state.overview.timestamp - ms) / 1000));
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return `${seconds} s ago`;
}

function exchangeState(name) {
  const found = state.exchanges.get(name);
  if (!found || found.status === "unknown") return "";
  const latency = found.api_latency_ms === null ? "" : `, ${Math.round(found.api_latency_ms)} ms`;
  return `; exchange ${found.status}${latency}`;
}

function showProviders() {
  const { providers, others } = state.overview;
  const body = document.querySelector("#providers tbody");
  showRows(
    body,
    providers,
    (provider) => provider.name,
    (provider) => rowFor(body, provider.name),
    (row, provider) => {
      const words = { recording: "recording", idle: "idle", failed: "a table cannot be read" }[provider.status];
      setCells(row, [
        words + exchangeState(provider.name),
        number(provider.tables),
        number(provider.rows),
        minute(provider.last),
        ago(provider.written),
      ]);
      row.cells[1].className = `state ${provider.status}`;
    },
  );
  setText(byId("others"), others.length ? `Nothing is recorded of ${others.join(", ")}.` : "");
}

function size(bytes) {
  for (const [unit, length] of [["GB", 2 ** 30], ["MB", 2 ** 20], ["KB", 2 ** 10]]) {
    if (bytes >= length) return `${(bytes / length).toFixed(1)} ${unit}`;
  }
  return `${bytes} bytes`;
}

function showTables() {
  const body = document.querySelector("#tables tbody");
  showRows(
    body,
    state.overview.tables,
    keyOf,
    (table) => {
      const open = make("button", { type: "button", textContent: table.table });
      open.addEventListener("click", () => openTable(keyOf(table)));
      return rowFor(body, table.feed === "instruments" ? table.table : open);
    },
    (row, table) => {
      const counting = table.is_counted || table.error ? "" : " so far";
      setCells(row, [
        table.provider,
        number(table.symbols),
        table.error ? table.error : number(table.rows) + counting,
        number(table.missing),
        minute(table.first),
        minute(table.last),
        size(table.disk_bytes),
      ]);
      row.cells[3].classList.toggle("error", Boolean(table.error));
      if (keyOf(table) === state.coverage.key) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    },
  );
}

// ---- coverage

const seriesTables = () => state.overview.tables.filter((table) => table.feed !== "instruments" && !table.error);
const candleTables = () => seriesTables().filter((table) => table.feed === "candles" && table.symbols > 0);
const tableOf = (key) => state.overview.tables.find((table) => keyOf(table) === key);
const choicesOf = (tables) => tables.map((table) => [keyOf(table), `${table.table} (${table.provider})`]);

function openTable(key) {
  state.coverage = { key, search: "", offset: 0 };
  byId("coverage-search").value = "";
  if (candleTables().some((table) => keyOf(table) === key)) chooseChart(key, "");
  byId("coverage-table").focus();
  refresh();
}

/** A market's name, with its kind where the table has markets of another, too. */
function labelOf(symbol, table) {
  const kind = symbol.entity_id.split("_")[0];
  const name = symbol.name ?? symbol.code;
  return kind === table.entity_type ? name : `${name} (${kind})`;
}

function symbolsOf(answer) {
  const columns = answer.symbols;
  return columns.entity_id.map((_, position) =>
    Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[position]])),
  );
}

async function showCoverage() {
  const tables = seriesTables();
  byId("coverage").hidden = tables.length === 0;
  if (!tables.length) return;
  const asked = state.coverage;
  if (!tables.some((table) => keyOf(table) === asked.key)) asked.key = keyOf(candleTables()[0] ?? tables[0]);
  showChoices(byId("coverage-table"), choicesOf(tables), asked.key);
  const { provider, table } = tableOf(asked.key);
  const answer = await ask("api/crypto/overview/symbols", {
    provider,
    table,
    search: asked.search,
    offset: asked.offset,
    limit: PAGE_OF_SYMBOLS,
  });
  if (asked !== state.coverage) return;
  const symbols = symbolsOf(answer);
  const body = document.querySelector("#coverage tbody");
  showRows(
    body,
    symbols,
    (symbol) => `${asked.key}/${symbol.entity_id}`,
    (symbol) => symbolRow(body, symbol),
    (row, symbol) => updateSymbol(row, symbol, answer),
  );
  const last = asked.offset + symbols.length;
  setText(byId("coverage-note"), symbols.length
    ? `Symbols ${asked.offset + 1} to ${last} of ${answer.total}; strips from ${minute(answer.start)} to ${minute(answer.end)} UTC.`
    : "No symbol has this text in it.");
  byId("coverage-back").disabled = asked.offset === 0;
  byId("coverage-on").disabled = last >= answer.total;
}

function symbolRow(body, symbol) {
  const key = state.coverage.key;
  const label = labelOf(symbol, tableOf(key));
  if (tableOf(key).feed !== "candles") return rowFor(body, label);
  const open = make("button", { type: "button", textContent: label, title: symbol.entity_id });
  open.addEventListener("click", () => {
    chooseChart(key, symbol.entity_id);
    byId("chart").scrollIntoView();
    byId("chart-symbol").focus({ preventScroll: true });
    refresh();
  });
  return rowFor(body, open);
}

function updateSymbol(row, symbol, answer) {
  setCells(row, [
    symbol.rows === null ? "counting" : number(symbol.rows),
    number(symbol.gaps),
    number(symbol.missing),
    number(symbol.to_record),
    minute(symbol.first),
    minute(symbol.last),
  ]);
  const shown = JSON.stringify([symbol.pieces, answer.start, answer.end]);
  if (row.dataset.strip !== shown) {
    row.dataset.strip = shown;
    row.cells[7].replaceChildren(...(symbol.pieces ? [strip(symbol, answer)] : []));
  }
}

function strip(symbol, answer) {
  const { start, end, kind, share } = symbol.pieces;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "strip");
  svg.setAttribute("viewBox", `0 0 ${STRIP_WIDTH} ${STRIP_HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const missing = symbol.missing === null ? "" : `, ${number(symbol.missing)} candles missing`;
  const gaps = symbol.gaps === 1 ? "1 gap" : `${number(symbol.gaps)} gaps`;
  svg.setAttribute("aria-label", symbol.gaps ? gaps + missing : "no gaps");
  const scale = STRIP_WIDTH / (answer.end - answer.start);
  // Gaps come last, and never so small that nobody sees them.
  const order = [...start.keys()].sort((a, b) => (kind[a] !== 0) - (kind[b] !== 0));
  for (const i of order) {
    const isGap = kind[i] !== 0;
    const width = Math.max((end[i] - start[i]) * scale, isGap ? NARROWEST_GAP : 0);
    const x = Math.min((start[i] - answer.start) * scale, STRIP_WIDTH - width);
    const name = answer.kinds[kind[i]];
    if (isGap && share[i] > 0) svg.append(rectangle(answer.kinds[0], x, width, STRIP_HEIGHT));
    const height = isGap ? Math.max(STRIP_HEIGHT * (1 - share[i]), LOWEST_GAP) : STRIP_HEIGHT;
    const piece = rectangle(name, x, width, height);
    const title = document.createElementNS(SVG, "title");
    const part = share[i] > 0 && isGap ? `, ${Math.floor(100 * share[i])} % recorded` : "";
    title.textContent = `${name}: ${minute(start[i])} to ${minute(end[i])} UTC${part}`;
    piece.append(title);
    svg.append(piece);
  }
  return svg;
}

function rectangle(className, x, width, height) {
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ class: className, x, y: 0, width, height })) rect.setAttribute(name, value);
  return rect;
}

// ---- chart

function chooseChart(key, symbol) {
  state.chart = { ...state.chart, key, symbol, level: "", end: null, symbols: [], seen: "", drawn: "" };
}

let plotly = null;

/** plotly is large: it is fetched when there is something to draw. */
function loadPlotly() {
  plotly ??= new Promise((done, failed) => {
    const script = make("script", { src: document.body.dataset.plotly });
    script.addEventListener("load", () => done(window.Plotly));
    script.addEventListener("error", () => {
      plotly = null;
      failed(new Unreachable("the code of the chart could not be loaded"));
    });
    document.head.append(script);
  });
  return plotly;
}

async function showChart() {
  const tables = candleTables();
  byId("chart").hidden = tables.length === 0;
  if (!tables.length) return;
  const chart = state.chart;
  if (!tables.some((table) => keyOf(table) === chart.key)) chooseChart(keyOf(tables[0]), "");
  if (chart !== state.chart) return showChart();
  const { provider, table, level, rows, last, written } = tableOf(chart.key);
  const seen = JSON.stringify([rows, last, written]);
  if (chart.seen !== seen) {
    const found = await ask("api/crypto/overview/symbols", { provider, table, strips: false, limit: 10000 });
    if (chart !== state.chart) return;
    chart.symbols = symbolsOf(found).filter((symbol) => symbol.first !== null);
    chart.seen = seen;
  }
  if (!chart.symbols.length) return;
  if (!chart.symbols.some((symbol) => symbol.entity_id === chart.symbol)) chart.symbol = chart.symbols[0].entity_id;
  chart.level ||= level;
  showChoices(byId("chart-table"), choicesOf(tables), chart.key);
  showChoices(byId("chart-symbol"), chart.symbols.map((s) => [s.entity_id, labelOf(s, tableOf(chart.key))]), chart.symbol);
  showChoices(byId("chart-level"), levelsFrom(level), chart.level);
  await drawWindow(chart, provider, table, level);
}

function levelsFrom(level) {
  const levels = Object.keys(LEVEL_MS).filter((name) => LEVEL_MS[name] >= LEVEL_MS[level]);
  return levels.map((name) => [name, name === level ? name : `${name} (made of ${level})`]);
}

async function drawWindow(chart, provider, table, level) {
  const symbol = chart.symbols.find((one) => one.entity_id === chart.symbol);
  const step = LEVEL_MS[chart.level];
  const newest = Math.floor(symbol.last / step) * step + step;
  const end = Math.min(chart.end ?? newest, newest);
  const start = end - chart.count * step;
  byId("chart-newer").disabled = byId("chart-newest").disabled = end >= newest;
  byId("chart-older").disabled = start <= symbol.first;
  const wanted = JSON.stringify([chart.key, chart.symbol, chart.level, start, end, chart.seen]);
  if (chart.drawn === wanted) return;
  const answer = await ask(`api/data/${encodeURIComponent(table)}`, {
    provider,
    entity_ids: chart.symbol,
    start_timestamp: Math.max(0, start),
    end_timestamp: end - 1,
    columns: "timestamp,open,high,low,close,volume",
    limit: chart.count,
    ...(chart.level === level ? {} : { resample: chart.level, unfinished: "mark" }),
  });
  const Plotly = await loadPlotly();
  if (chart !== state.chart) return;
  const name = symbol.name ?? symbol.code;
  const choice = JSON.stringify([chart.key, chart.symbol, chart.level, chart.count, chart.end]);
  await draw(Plotly, answer.data, `${name} ${chart.level}`, start, end, choice);
  chart.drawn = wanted;
  showCandles(answer.data);
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["text", "line", "rise", "fall"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

async function draw(Plotly, rows, title, start, end, choice) {
  const { text, line, rise, fall } = colours();
  const column = (name) => rows.map((row) => row[name]);
  const x = column("timestamp");
  const prices = Object.fromEntries(["open", "high", "low", "close"].map((name) => [name, column(name)]));
  const candles = {
    type: "candlestick",
    name: "price",
    x,
    ...prices,
    increasing: { line: { color: rise, width: 1 }, fillcolor: rise },
    decreasing: { line: { color: fall, width: 1 }, fillcolor: fall },
  };
  const marker = { color: rows.map((row) => (row.close >= row.open ? rise : fall)) };
  const volume = { type: "bar", name: "volume", x, y: column("volume"), yaxis: "y2", marker };
  const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: true };
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, size: 12 },
    margin: { l: 10, r: 10, t: 10, b: 30 },
    showlegend: false,
    // What was moved or enlarged stays so until another chart is chosen.
    uirevision: choice,
    bargap: 0.1,
    // A finger on the chart scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "pan",
    hovermode: "x",
    xaxis: { ...axis, type: "date", range: [start, end].map((ms) => new Date(ms).toISOString()), rangeslider: { visible: false }, anchor: "y2" },
    yaxis: { ...axis, domain: [0.27, 1] },
    yaxis2: { ...axis, domain: [0, 0.2], rangemode: "tozero" },
  };
  const plot = byId("plot");
  await Plotly.react(plot, [candles, volume], layout, { displayModeBar: false, responsive: true });
  plot.setAttribute("aria-label", `Candles and volume of ${title}`);
  const last = rows.at(-1);
  const within = `${minute(start)} to ${minute(end)} UTC`;
  setText(byId("chart-caption"), last
    ? `${title}, ${number(rows.length)} candles, ${within}. Last close ${last.close}, lowest ${Math.min(...column("low"))}, highest ${Math.max(...column("high"))}.`
    : `${title}: no candles are recorded from ${within}.`);
}

function showCandles(rows) {
  const body = document.querySelector("#chart details tbody");
  showRows(
    body,
    rows.slice(-TABLE_ROWS).reverse(),
    (row) => row.timestamp,
    (row) => rowFor(body, row.timestamp.slice(0, 16).replace("T", " ")),
    (element, row) => setCells(element, ["open", "high", "low", "close", "volume"].map((name) => String(row[name] ?? ""))),
  );
}

// ---- live

let showLive = null;

/** The live section has a file of its own, which is fetched with the first rows. */
async function offerLive() {
  showLive ??= import(new URL(document.body.dataset.live, location.href)).then(
    ({ startLive }) => startLive({ byId, setText, setCells, rowFor, ask }),
    () => {
      showLive = null;
      throw new Unreachable("the code of the live part could not be loaded");
    },
  );
  const show = await showLive;
  const { key, symbol } = state.chart;
  const chosen = state.chart.symbols.find((one) => one.entity_id === symbol);
  const isPerpetual = symbol.startsWith("cryptoperp");
  await show(key.split("/")[0], chosen ? chosen.code + (isPerpetual ? "-perp" : "") : "btcusdt");
}

// ---- the loop

let timer = null;
let isRunning = false;
let isWanted = false;

/** Show what there is now; one round at a time, and one more if something was chosen meanwhile. */
async function refresh() {
  isWanted = true;
  if (isRunning) return;
  isRunning = true;
  clearTimeout(timer);
  while (isWanted) {
    isWanted = false;
    try {
      await round();
    } catch (error) {
      showFailure(error);
    }
  }
  isRunning = false;
  if (!document.hidden) timer = setTimeout(refresh, POLL_MS);
}

async function round() {
  if (state.polls % STATUS_EVERY === 0) await askExchanges();
  state.overview = await ask("api/crypto/overview");
  state.polls += 1;
  const isEmpty = state.overview.tables.length === 0;
  byId("nothing").hidden = !isEmpty;
  byId("providers").hidden = byId("tables").hidden = isEmpty;
  showProviders();
  showTables();
  await showCoverage();
  await showChart();
  if (!isEmpty) await offerLive();
  byId("failure").hidden = true;
  setText(byId("status"), "Live");
}

async function askExchanges() {
  const { providers } = await ask("api/crypto/providers/status");
  state.exchanges = new Map(providers.map((provider) => [provider.name, provider]));
}

function showFailure(error) {
  const time = state.overview && new Date(state.overview.timestamp).toISOString().slice(0, 19).replace("T", " ");
  const shown = time ? ` What is shown is from ${time} UTC.` : "";
  const isGone = error instanceof Unreachable;
  setText(byId("failure-text"), isGone ? `The server does not answer.${shown}` : `${error.message}.${shown}`);
  setText(byId("failure-advice"), isGone ? "Start it again with: zvt-crypto serve" : error.advice ?? "");
  setText(byId("status"), isGone ? "Not connected" : "Failed");
  byId("failure").hidden = false;
}

function onChoice(id, choose, event = "change") {
  byId(id).addEventListener(event, ({ target }) => {
    choose(target.value);
    refresh();
  });
}

onChoice("coverage-table", (key) => { state.coverage = { ...state.coverage, key, offset: 0 }; });
onChoice("coverage-search", (search) => { state.coverage = { ...state.coverage, search, offset: 0 }; }, "input");
onChoice("chart-table", (key) => chooseChart(key, ""));
onChoice("chart-symbol", (symbol) => { state.chart = { ...state.chart, symbol, end: null }; });
onChoice("chart-level", (level) => { state.chart = { ...state.chart, level, end: null }; });
onChoice("chart-count", (count) => { state.chart = { ...state.chart, count: Number(count) }; });

function onPress(id, press) {
  byId(id).addEventListener("click", () => {
    press();
    refresh();
  });
}

function moveSymbols(by) {
  const offset = Math.max(0, state.coverage.offset + by);
  state.coverage = { ...state.coverage, offset };
}

function moveChart(by) {
  const chart = state.chart;
  const symbol = chart.symbols.find((one) => one.entity_id === chart.symbol);
  const step = LEVEL_MS[chart.level];
  const newest = Math.floor(symbol.last / step) * step + step;
  const end = (chart.end ?? newest) + by * Math.ceil(chart.count / 2) * step;
  state.chart = { ...chart, end: end >= newest ? null : end };
}

onPress("coverage-back", () => moveSymbols(-PAGE_OF_SYMBOLS));
onPress("coverage-on", () => moveSymbols(PAGE_OF_SYMBOLS));
onPress("chart-older", () => moveChart(-1));
onPress("chart-newer", () => moveChart(1));
onPress("chart-newest", () => { state.chart = { ...state.chart, end: null }; });

for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) refresh();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  state.chart.drawn = "";
  refresh();
});

refresh();
