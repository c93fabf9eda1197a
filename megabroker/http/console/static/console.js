// What pages do beyond showing: plots, the live tail, the theme, keys. Each page works without.
"use strict";

const root = document.documentElement;

// --- theme ---

const isDark = () => root.dataset.theme
  ? root.dataset.theme === "dark"
  : matchMedia("(prefers-color-scheme: dark)").matches;

document.getElementById("theme")?.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("megabroker-theme", root.dataset.theme); } catch { /* kept for this page only */ }
  redrawPlots();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redrawPlots());

// --- numbers ---

const thin = "\u202f";

function size(value) {
  if (value == null) return "\u2013";
  let unit = "B";
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(value) < 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${value >= 100 || unit === "B" ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
}

function count(value) {
  if (value == null) return "\u2013";
  const text = value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
  return text.replace(/\B(?=(\d{3})+(?!\d))/g, thin);
}

const milliseconds = value => value == null ? "\u2013" : `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;

// --- plots ---

const BINARY = Array.from({ length: 42 }, (_, power) => 2 ** power);
const PLOTS = {
  bytes: { steps: BINARY, format: value => `${size(value)}/s`, series: [["in", "received_bytes", 1], ["out", "sent_bytes", 2]] },
  messages: { format: value => `${count(value)}/s`, series: [["messages", "messages", 1], ["requests", "requests", 3]] },
  latency: { format: milliseconds, series: [["median", "median_ms", 1], ["p99", "slow_ms", 4]] },
  lag: { format: count, series: [["lag", "lag", 1]] },
};
const plots = [];

function colour(number) {
  return getComputedStyle(root).getPropertyValue(`--plot-${number}`).trim();
}

function draw(plot) {
  const { element, wanted, data } = plot;
  plot.shown?.destroy();
  const style = getComputedStyle(root);
  const axis = {
    stroke: style.getPropertyValue("--soft").trim(),
    grid: { stroke: style.getPropertyValue("--line").trim(), width: 1 },
    ticks: { stroke: style.getPropertyValue("--line").trim(), width: 1 },
  };
  plot.shown = new uPlot({
    width: element.clientWidth,
    height: 190,
    cursor: { points: { size: 6 } },
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
    axes: [
      { ...axis, space: 70, values: (_, times) => times.map(clock) },
      { ...axis, size: 78, space: 34, ...(wanted.steps && { incrs: wanted.steps }), values: (_, values) => values.map(wanted.format) },
    ],
    series: [
      { label: "time", value: (_, time) => time == null ? "\u2013" : clock(time) },
      ...wanted.series.map(([label, , number]) => ({
        label,
        stroke: colour(number),
        width: 2,
        spanGaps: true,
        points: { show: data[0].length < 3 },
        // Without a pointer over the plot the legend tells the last value.
        value: (shown, value, at) => {
          const told = value ?? shown.data[at].at(-1);
          return told == null ? "" : wanted.format(told);
        },
      })),
    ],
  }, data, element);
}

function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

function redrawPlots() {
  for (const plot of plots) if (plot.data) draw(plot);
}

function feed(plot, rows) {
  const { wanted } = plot;
  plot.data = [rows.map(row => row.at), ...wanted.series.map(([, name]) => rows.map(row => row[name] ?? null))];
  const few = rows.length < 3;
  if (plot.shown && plot.few === few && plot.lines === wanted.series.length) plot.shown.setData(plot.data);
  else draw(plot);
  plot.few = few;
  plot.lines = wanted.series.length;
}

function topicLines(wanted, rows) {
  // The lag of single topics, if there are several; the names of topics are letters, digits, dot, hyphen.
  const names = new Set(rows.flatMap(row => Object.keys(row).filter(name => name.startsWith("topic:"))));
  const some = names.size > 1 ? [...names].sort().slice(0, 5) : [];
  wanted.series = [["lag", "lag", 1], ...some.map((name, at) => [name.slice(6), name, at + 2])];
}

async function poll(address, seconds, take) {
  let failed = 0;
  for (;;) {
    if (document.visibilityState === "visible") {
      try {
        const answer = await fetch(address, { headers: { Accept: "application/json" } });
        if (answer.redirected || answer.status === 401) return location.reload();
        if (answer.ok) take((await answer.json()).series);
        failed = answer.ok ? 0 : failed + 1;
      } catch {
        failed += 1;
      }
      document.getElementById("away")?.toggleAttribute("hidden", failed < 2);
    }
    await new Promise(done => setTimeout(done, seconds * 1000));
  }
}

const tiles = {
  messages: value => `${count(value)}/s`,
  received_bytes: value => `${size(value)}/s`,
  sent_bytes: value => `${size(value)}/s`,
  connections: count,
  slow_ms: milliseconds,
  lag: count,
  consumed: value => `${count(value)}/s`,
};

function fillTiles(row) {
  for (const element of document.querySelectorAll("[data-tile]")) {
    const name = element.dataset.tile;
    if (row && name in row) element.textContent = tiles[name](row[name]);
  }
}

const plotted = document.querySelector("[data-series]");
if (plotted) {
  for (const element of document.querySelectorAll("[data-plot]")) {
    plots.push({ element, wanted: { ...PLOTS[element.dataset.plot] }, data: null });
  }
  new ResizeObserver(() => {
    for (const { element, shown } of plots) shown?.setSize({ width: element.clientWidth, height: 190 });
  }).observe(plotted);
  poll(plotted.dataset.series, 2, rows => {
    fillTiles(rows.at(-1));
    for (const plot of plots) {
      if (plot.element.dataset.plot === "lag") topicLines(plot.wanted, rows);
      if (rows.length) feed(plot, rows);
    }
  });
}

// --- the live tail ---

const tail = document.querySelector("[data-tail]");
if (tail) {
  const MOST_ROWS = 500;
  const rows = document.getElementById("tail-rows");
  const state = document.getElementById("tail-state");
  const button = document.getElementById("tail-pause");
  let source = null;
  let seen = 0;

  const say = (text, on) => {
    state.textContent = text;
    state.classList.toggle("on", on);
  };
  const begin = () => {
    source = new EventSource(tail.dataset.tail);
    source.onopen = () => say("live", true);
    source.onerror = () => say("asking again\u2026", false);
    source.addEventListener("messages", event => {
      // The broker has escaped what messages hold, and no script in this page would be run.
      const { html, count: more } = JSON.parse(event.data);
      const part = document.createElement("template");
      part.innerHTML = `<table><tbody>${html}</tbody></table>`;
      const fresh = [...part.content.querySelectorAll("tbody > tr")].reverse();
      for (const row of fresh) row.classList.add("new");
      rows.prepend(...fresh);
      while (rows.childElementCount > MOST_ROWS) rows.lastElementChild.remove();
      seen += more;
      document.getElementById("tail-count").textContent = count(seen);
      document.getElementById("tail-empty")?.remove();
    });
    source.addEventListener("over", event => {
      source.close();
      say(JSON.parse(event.data).why, false);
    });
  };
  button.addEventListener("click", () => {
    const goesOn = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!goesOn));
    button.textContent = goesOn ? "Pause" : "Go on";
    if (goesOn) begin();
    else {
      source.close();
      say("paused", false);
    }
  });
  document.getElementById("tail-clear").addEventListener("click", () => rows.replaceChildren());
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", event => { if (event.persisted) begin(); });
  begin();
}

// --- forms ---

for (const form of document.querySelectorAll("form[method=post]")) {
  // Sent twice by a double click it would be done twice.
  form.addEventListener("submit", event => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

document.addEventListener("change", event => {
  const element = event.target.closest?.("[data-submits]");
  if (element) element.form.requestSubmit();
});

document.addEventListener("click", event => {
  const button = event.target.closest?.("[data-edit]");
  if (!button) return;
  const form = document.getElementById("edit");
  form.elements.name.value = button.dataset.edit;
  form.elements.value.value = button.dataset.value;
  form.elements.value.focus();
  form.elements.value.select();
});

// --- where one is, in a navigation that is wider than the window ---

for (const link of document.querySelectorAll(".side [aria-current], .tabs [aria-current]")) {
  const strip = link.closest("nav");
  strip.scrollLeft = link.offsetLeft - (strip.clientWidth - link.offsetWidth) / 2;
}

// --- keys ---

const help = document.getElementById("help");
let after = "";

document.getElementById("help-open")?.addEventListener("click", () => help.showModal());
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
  if (after === "g") {
    after = "";
    const link = document.querySelector(`.side a[data-key="${CSS.escape(event.key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
    }
    return;
  }
  if (event.key === "g") {
    after = "g";
    setTimeout(() => { after = ""; }, 1500);
  } else if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select?.();
    }
  } else if (event.key === "?") {
    help?.showModal();
  }
});
