// The report's script: choices, linked highlighting, tables, downloads, and the view in the URL fragment.
// Without it the page is whole; nothing is computed here, only shown, ordered and drawn from the page's data.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const filled = (element, attributes, children) => {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const make = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
  const draw = (name, attributes = {}, ...children) =>
    filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  const pages = JSON.parse(document.getElementById("study-data").textContent);
  const minus = (text) => text.replaceAll("−", "-");
  const shown = (value) => (value === null || value === undefined ? "–" : value.toFixed(3).replace("-", "−"));
  const view = { off: new Set(), cell: "", sort: new Map(), filter: new Map() };

  // ---- the view, in the URL fragment ----
  function save() {
    const query = new URLSearchParams();
    for (const name of [...view.off].sort()) query.append("off", name);
    if (view.cell) query.set("cell", view.cell);
    for (const [table, [column, direction]] of view.sort) query.append("sort", `${table}.${column}.${direction}`);
    for (const [table, text] of view.filter) if (text) query.append("filter", `${table}.${text}`);
    const text = String(query);
    history.replaceState(null, "", text ? `#view?${text}` : location.pathname + location.search);
  }
  function restore() {
    const hash = decodeURI(location.hash);
    if (!location.hash.startsWith("#view?")) {
      const target = hash.length > 1 && document.getElementById(hash.slice(1));
      for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
      if (target) target.scrollIntoView();
      return;
    }
    const query = new URLSearchParams(location.hash.slice("#view?".length));
    view.off = new Set(query.getAll("off"));
    view.cell = query.get("cell") || "";
    view.sort = new Map(query.getAll("sort").map((t) => [+t.split(".")[0], t.split(".").slice(1).map(Number)]));
    view.filter = new Map(query.getAll("filter").map((t) => [+t.split(".")[0], t.slice(t.indexOf(".") + 1)]));
    for (const box of all("#choices input")) box.checked = !view.off.has(box.value);
    tables.forEach((table) => table.refresh());
    refresh();
  }

  // ---- choices of encoders, targets and controls ----
  const isOff = (kind, name) => view.off.has(`${kind}:${name}`);
  function makeChoices() {
    const unique = (names) => [...new Set(names)];
    const encoders = unique(pages.flatMap((page) => page.encoders.map((e) => e.name)));
    const looks = new Map(pages.flatMap((page) => page.encoders.map((e) => [e.name, e])));
    const kinds = {
      encoder: encoders,
      target: unique(pages.flatMap((page) => page.targets)),
      control: unique(pages.flatMap((page) => page.controls)),
    };
    const form = document.getElementById("choices");
    for (const [kind, names] of Object.entries(kinds)) {
      if (!names.length) continue;
      const set = make("fieldset", {}, make("legend", {}, `${kind[0].toUpperCase()}${kind.slice(1)}s`));
      for (const name of names) {
        const box = make("input", { type: "checkbox", value: `${kind}:${name}` });
        box.checked = true;
        box.addEventListener("change", () => {
          box.checked ? view.off.delete(box.value) : view.off.add(box.value);
          refresh();
          save();
        });
        const label = make("label", {}, box, ` ${name} `);
        if (kind === "encoder") label.append(sample(looks.get(name)));
        set.append(label);
      }
      form.append(set);
    }
    form.hidden = false;
  }
  const sample = (encoder) => draw("svg", { width: 26, height: 8, "aria-hidden": "true" },
    draw("line", { x1: 0, x2: 26, y1: 4, y2: 4, ...line(encoder), "stroke-width": 2.5 }));
  const line = (encoder) => ({ stroke: encoder.colour, "stroke-dasharray": encoder.dash, fill: "none" });

  // ---- cells of the heatmaps ----
  const tip = document.getElementById("tip");
  function makeCells(page) {
    const rows = new Map();
    page.cells.forEach(([e, control, target, layer, text], k) => {
      const element = document.getElementById(`${page.prefix}-cell-${k}`);
      if (!element) return;
      const cell = { element, encoder: page.encoders[e].name, control, target, layer, text };
      const key = [e, control, target].join();
      rows.set(key, [...(rows.get(key) || []), cell]);
      element.setAttribute("aria-label", text);
      element.setAttribute("role", "img");
      element.setAttribute("tabindex", k === 0 ? "0" : "-1");
      element.addEventListener("pointerenter", () => highlight(page, cell.encoder, layer, cell));
      element.addEventListener("focus", () => highlight(page, cell.encoder, layer, cell));
      for (const event of ["pointerleave", "blur"]) element.addEventListener(event, () => highlightPinned());
      element.addEventListener("click", () => pin(name(page, cell.encoder, layer)));
      element.addEventListener("keydown", (event) => move(page, cell, event));
    });
    page.rows = [...rows.values()];
    page.flat = page.rows.flat();
  }
  function move(page, cell, event) {
    const row = page.rows.findIndex((r) => r.includes(cell)), column = page.rows[row].indexOf(cell);
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter" || event.key === " ") pin(name(page, cell.encoder, cell.layer));
    else if (event.key === "Escape") pin(view.cell);
    else if (steps[event.key]) {
      const [down, right] = steps[event.key];
      const next = page.rows[Math.max(0, Math.min(page.rows.length - 1, row + down))];
      const found = next[Math.max(0, Math.min(next.length - 1, column + right))];
      cell.element.setAttribute("tabindex", "-1");
      found.element.setAttribute("tabindex", "0");
      found.element.focus();
    } else return;
    event.preventDefault();
  }
  function showTip(element, text) {
    tip.textContent = text;
    tip.hidden = false;
    const box = element.getBoundingClientRect(), root = document.documentElement;
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = Math.max(4, Math.min(left, root.clientWidth - tip.offsetWidth - 4)) + root.scrollLeft + "px";
    const above = box.top - tip.offsetHeight - 6;
    tip.style.top = (above > 0 ? above : box.bottom + 6) + root.scrollTop + "px";
  }

  // ---- the same layer of the same encoder in cells, curves, weights and tables ----
  const marks = new Map(); // of figures whose marks name their encoder and layer
  for (const mark of all(".sheet svg [data-layer]")) {
    const key = `${mark.dataset.encoder}|${mark.dataset.layer}`;
    marks.set(key, [...(marks.get(key) || []), mark]);
  }
  const name = (page, encoder, layer) => [page.prefix, encoder, layer].join("|");
  function pin(key) {
    view.cell = view.cell === key ? "" : key;
    highlightPinned();
    save();
  }
  function highlightPinned() {
    tip.hidden = true;
    const [prefix, encoder, layer] = view.cell.split("|");
    const page = pages.find((p) => p.prefix === prefix);
    if (page && page.encoders.some((e) => e.name === encoder)) highlight(page, encoder, layer, null);
    else clear();
  }
  function clear() {
    for (const element of all(".lit")) element.classList.remove("lit");
    for (const element of all(".marker")) element.remove();
    for (const page of pages) if (page.detail) page.detail.textContent = page.hint;
  }
  function highlight(page, encoder, layer, cell) {
    clear();
    for (const other of page.flat) {
      other.element.classList.toggle("lit", other.encoder === encoder && other.layer === layer);
    }
    for (const mark of marks.get(`${encoder}|${layer}`) || []) mark.classList.add("lit");
    for (const table of tables) table.light(encoder, layer);
    const found = page.encoders.find((e) => e.name === encoder), k = found.layers.indexOf(layer);
    const texts = [];
    for (const panel of page.panels || []) {
      const scores = (found.scores || {})[panel.target];
      if (!scores || k < 0 || isOff("target", panel.target)) continue;
      const interval = scores.low[k] === null ? "" : ` (${shown(scores.low[k])} to ${shown(scores.high[k])})`;
      const weight = scores.weight && scores.weight[k] !== null ? `, weight ${shown(scores.weight[k])}` : "";
      texts.push(`${panel.target} ${shown(scores.value[k])}${interval}${weight}`);
      if (found.depths && !isOff("encoder", encoder)) panel.mark(found, scores, k);
    }
    const shownLayer = `${found.depths ? "layer" : "feature set"} ${layer}`;
    if (page.detail) page.detail.textContent = `${encoder}, ${shownLayer}: ${texts.join("; ")}`;
    if (cell) showTip(cell.element, cell.text);
  }

  // ---- curves of scores, with the layer weights below them ----
  const W = 340, H = 190, LOW = 70, LEFT = 34, RIGHT = 8, TOP = 18;
  function makePanels(page) {
    const box = document.getElementById(`${page.prefix}-explore`);
    if (!box || !page.encoders.some((e) => e.depths)) return;
    page.hint = "Point at a layer, or move with the arrow keys from cell to cell in the heatmap; Enter keeps a layer.";
    page.detail = make("p", { class: "detail", role: "status" }, page.hint);
    const grid = make("div", { class: "panels" });
    page.panels = page.targets.map((target) => ({ target, figure: make("figure") }));
    grid.append(...page.panels.map((panel) => panel.figure));
    box.append(page.detail, grid);
    box.hidden = false;
    for (const details of all(`#${page.prefix}-curves details.static`)) details.open = false;
    const scores = page.encoders.filter((e) => e.depths).flatMap((e) => Object.values(e.scores));
    const values = scores.flatMap((s) => [...s.value, ...s.low, ...s.high, ...(s.random || [])]);
    const known = values.filter((v) => v !== null && v !== undefined);
    page.limits = [Math.min(0, ...known), Math.max(0.1, ...known)];
    page.heaviest = Math.max(0.01, ...scores.flatMap((s) => s.weight || []).filter((v) => v !== null));
    page.deepest = Math.max(1, ...page.encoders.flatMap((e) => e.depths || []));
  }
  function drawPanel(page, panel) {
    const [low, high] = page.limits;
    const x = (depth) => LEFT + (depth / page.deepest) * (W - LEFT - RIGHT);
    const y = (value) => TOP + ((high - value) / (high - low)) * (H - TOP - 8);
    const yw = (weight) => H + 28 + (1 - weight / page.heaviest) * (LOW - 34);
    const isFinal = (encoder, k) => encoder.layers[k] === "final"; // the last block again, normalised: never joined to it
    const path = (encoder, values, to) => {
      const points = values.map((v, k) => `${x(encoder.depths[k]).toFixed(1)} ${to(v).toFixed(1)}`);
      return "M" + points.filter((_, k) => values[k] !== null && !isFinal(encoder, k)).join("L");
    };
    const present = page.encoders.filter((e) => e.depths && e.scores[panel.target] && !isOff("encoder", e.name));
    const hasWeights = present.some((e) => e.scores[panel.target].weight);
    const height = H + (hasWeights ? LOW : 14);
    const label = `${page.metric} of ${panel.target} by relative depth`;
    const svg = draw("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": label, class: "panel" });
    const add = (name, attributes, ...children) => svg.append(draw(name, attributes, ...children));
    const text = (where, content) => add("text", where, content);
    text({ x: LEFT, y: 11, class: "title" }, panel.target);
    for (const value of ticks(low, high)) {
      add("line", { x1: LEFT, x2: W - RIGHT, y1: y(value), y2: y(value), class: value ? "grid" : "zero" });
      text({ x: LEFT - 4, y: y(value) + 3, "text-anchor": "end" }, String(+value.toFixed(2)).replace("-", "−"));
    }
    for (const value of [0, 0.5, 1]) {
      const anchor = value === 0 ? "start" : value === 1 ? "end" : "middle";
      text({ x: x(value), y: H + 10, "text-anchor": anchor }, String(value));
    }
    present.forEach((encoder, number) => {
      const scores = encoder.scores[panel.target], look = line(encoder);
      if (scores.low.every((v) => v !== null)) {
        const back = path(encoder, scores.high, y).slice(1).split("L").reverse().join("L");
        add("path", { d: `${path(encoder, scores.low, y)}L${back}Z`, fill: encoder.colour, opacity: 0.12 });
      }
      add("path", { d: path(encoder, scores.value, y), ...look, "stroke-width": 1.8 });
      const k = scores.value.length - 1, end = { cx: x(encoder.depths[k]), cy: y(scores.value[k]), r: 2.5, class: "final" };
      if (isFinal(encoder, k) && scores.value[k] !== null) add("circle", { ...end, fill: "none", stroke: encoder.colour });
      const hasRandom = scores.random && !isOff("control", "random initialisation");
      if (hasRandom) add("path", { d: path(encoder, scores.random, y), ...look, "stroke-width": 0.9, opacity: 0.6 });
      const chance = isOff("control", "chance level") ? null : scores.chance;
      if (chance !== null) add("line", { x1: LEFT, x2: W - RIGHT, y1: y(chance), y2: y(chance), class: "chance" });
      scores.best.forEach((inside, k) => {
        const place = { x: x(encoder.depths[k]) - 1.5, y: H - 14 + 2.2 * number, width: 3, height: 2 };
        if (inside) add("rect", { ...place, fill: encoder.colour });
      });
      if (scores.weight) add("path", { d: path(encoder, scores.weight, yw), ...look, "stroke-width": 1.2 });
    });
    if (hasWeights) text({ x: LEFT, y: H + 22 }, "weights of the weighted sum");
    panel.mark = (encoder, scores, k) => {
      const place = x(encoder.depths[k]), value = scores.value[k];
      add("line", { x1: place, x2: place, y1: TOP, y2: height - 4, class: "marker" });
      if (value === null) return;
      add("circle", { cx: place, cy: y(value), r: 3.5, class: "marker", fill: encoder.colour });
      const weight = scores.weight ? scores.weight[k] : null; // final has none
      if (weight !== null) add("circle", { cx: place, cy: yw(weight), r: 3, class: "marker", fill: encoder.colour });
    };
    svg.addEventListener("pointermove", (event) => {
      const frame = svg.getBoundingClientRect(), scale = W / frame.width;
      const px = (event.clientX - frame.left) * scale, py = (event.clientY - frame.top) * scale;
      let best = null, least = 400;
      for (const encoder of present) {
        encoder.scores[panel.target].value.forEach((v, k) => {
          const distance = v === null ? Infinity : (x(encoder.depths[k]) - px) ** 2 + (y(v) - py) ** 2;
          if (distance < least) [best, least] = [[encoder, k], distance];
        });
      }
      if (best) highlight(page, best[0].name, best[0].layers[best[1]], null);
    });
    svg.addEventListener("pointerleave", highlightPinned);
    panel.figure.replaceChildren(svg);
    panel.figure.hidden = isOff("target", panel.target);
  }
  function ticks(low, high) {
    const step = high - low > 1.2 ? 0.5 : high - low > 0.5 ? 0.2 : 0.1, found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
    return found;
  }

  // ---- tables: order, filter, CSV ----
  const tables = [];
  function makeTable(table, number) {
    const heads = all("thead th", table), texts = heads.map((th) => th.textContent.trim());
    const isTitle = (row) => row.querySelector("th[scope=rowgroup]") !== null;
    const rows = all("tbody tr", table).filter((row) => !isTitle(row));
    const column = (row, heading) => (row.cells[texts.indexOf(heading)] || { textContent: "" }).textContent.trim();
    const info = rows.map((row) => ({
      row,
      encoder: row.dataset.encoder || column(row, "encoder"),
      target: row.dataset.target ? row.dataset.target.replaceAll("_", " ") : column(row, "target"),
      layer: column(row, "layer") || column(row, "highest-scoring layer"),
    }));
    const key = (row, k) => {
      const text = minus(row.cells[k].textContent.trim()).replace(/^(.\s+)?(p [=<]|<)\s*/, "");
      const value = parseFloat(text);
      return Number.isNaN(value) ? text : value;
    };
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === typeof b ? a.localeCompare(b) : typeof a === "number" ? -1 : 1);
    const order = (k, direction) => {
      heads.forEach((th, j) => th.setAttribute("aria-sort", j !== k ? "none" : direction > 0 ? "ascending" : "descending"));
      for (const body of table.tBodies) {
        const own = [...body.rows].filter((row) => !isTitle(row));
        own.sort((a, b) => direction * compare(key(a, k), key(b, k)));
        body.append(...own);
      }
    };
    heads.forEach((th, k) => {
      const button = make("button", { type: "button", class: "sort" }, ...th.childNodes);
      button.addEventListener("click", () => {
        const [last, direction] = view.sort.get(number) || [];
        view.sort.set(number, [k, last === k ? -direction : 1]);
        order(...view.sort.get(number));
        save();
      });
      th.append(button);
    });
    const tools = make("p", { class: "tools" });
    const filter = make("input", { type: "search", placeholder: "Filter", "aria-label": "Filter the rows of the table" });
    filter.addEventListener("input", () => {
      view.filter.set(number, filter.value);
      self.hide();
      save();
    });
    if (rows.length > 8) tools.append(filter, " ");
    tools.append(download("CSV", () => [`${table.dataset.name || "table"}.csv`, "text/csv", csv()]));
    table.closest(".scroll")[table.matches(".answers") ? "after" : "before"](tools);
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const csv = () => {
      const titles = all("th[scope=rowgroup]", table).length > 0, lines = [titles ? ["target", ...texts] : texts];
      for (const row of all("tbody tr", table)) {
        if (isTitle(row) || row.hidden) continue;
        const cells = [...row.cells].map((cell) => cell.textContent.trim());
        lines.push(titles ? [row.closest("tbody").querySelector("th").textContent.trim(), ...cells] : cells);
      }
      return lines.map((cells) => cells.map(quoted).join(",")).join("\n") + "\n";
    };
    const self = {
      hide() {
        const text = (view.filter.get(number) || "").toLowerCase();
        for (const one of info) {
          const off = isOff("encoder", one.encoder) || isOff("target", one.target);
          one.row.hidden = off || (text !== "" && !one.row.textContent.toLowerCase().includes(text));
        }
        for (const body of table.tBodies) body.hidden = [...body.rows].every((row) => isTitle(row) || row.hidden);
      },
      light(encoder, layer) {
        for (const one of info) one.row.classList.toggle("lit", one.encoder === encoder && one.layer === layer);
      },
      refresh() {
        filter.value = view.filter.get(number) || "";
        if (view.sort.has(number)) order(...view.sort.get(number));
      },
    };
    tables.push(self);
  }

  // ---- downloads ----
  function download(label, content) {
    const link = make("a", { href: "#", class: "download", download: "" }, label);
    link.addEventListener("click", () => {
      const [file, type, text] = content();
      link.download = file;
      link.href = `data:${type};charset=utf-8,${encodeURIComponent(text)}`;
    });
    return link;
  }
  function makeFigure(figure) {
    const sheet = figure.querySelector(".sheet"), file = `${figure.dataset.name}.svg`;
    const image = sheet.querySelector("img");
    const link = image
      ? make("a", { href: image.src, class: "download", download: file }, "SVG")
      : download("SVG", () => [file, "image/svg+xml", new XMLSerializer().serializeToString(sheet.querySelector("svg"))]);
    figure.append(make("p", { class: "tools" }, link));
  }

  function refresh() {
    for (const page of pages) {
      for (const cell of page.flat) {
        const off = isOff("encoder", cell.encoder) || isOff("target", cell.target) || isOff("control", cell.control);
        cell.element.classList.toggle("off", off);
      }
      for (const panel of page.panels || []) drawPanel(page, panel);
    }
    tables.forEach((table) => table.hide());
    highlightPinned();
  }

  makeChoices();
  pages.forEach(makeCells);
  pages.forEach(makePanels);
  all("table.data, table.answers").forEach(makeTable);
  all("figure[data-name]").forEach(makeFigure);
  for (const button of all("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(document.getElementById(button.dataset.of));
      if (navigator.clipboard) navigator.clipboard.writeText(String(getSelection())).catch(() => {});
      button.textContent = "Copied";
    });
  }
  let closed = [];
  addEventListener("beforeprint", () => (closed = all("details:not([open])")).forEach((d) => (d.open = true)));
  addEventListener("afterprint", () => closed.forEach((d) => (d.open = false)));
  addEventListener("hashchange", restore);
  refresh();
  restore();
})();
