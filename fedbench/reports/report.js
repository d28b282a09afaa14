"use strict";

// Draws the figures that the page describes as data (see figure.py), and makes tables sort and filter. It never writes
// HTML from text: names come from a store.

const LIGHT = d3.interpolateBlues;
const DARK = t => d3.interpolateBlues(1 - t);
const BELOW = {labelAnchor: "center", labelArrow: "none", labelOffset: 34, tickFormat: d3.format("~g")};
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function button(text, label, action) {
  return make("button", {type: "button", textContent: text, "aria-label": label, onclick: action});
}

function save(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], {type}));
  make("a", {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// Text that a spreadsheet would compute gets an apostrophe, as in `fedbench export`.
function csvField(value) {
  let text = Array.isArray(value) ? value.join(" ") : String(value ?? "");
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(columns, rows) {
  return [columns, ...rows].map(row => row.map(csvField).join(",") + "\n").join("");
}

// A copy without the page's variables, for other programs.
function svgFile(svg) {
  const page = getComputedStyle(document.documentElement);
  const copy = svg.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("color", page.color);
  copy.style.background = page.getPropertyValue("--page");
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\((--[a-z0-9]+)\)/g, (_, name) => page.getPropertyValue(name).trim());
}

function fileName(...parts) {
  return parts.filter(Boolean).join(" ").replace(/[^\p{L}\p{N}.=-]+/gu, "-").slice(0, 120);
}

const text = value => Array.isArray(value) ? value.map(each => each ?? "–").join("  ") : value ?? "–";
const shorten = (words, letters) => words.length > letters ? `…${words.slice(1 - letters)}` : words;  // the end tells most

function table(caption, head, body) {
  return make("div", {className: "wide", tabIndex: 0, role: "region", "aria-label": caption},
    make("table", {"aria-label": caption}, make("thead", {}, ...head), make("tbody", {}, ...body)));
}

function numbers(figure, columns, rows) {
  const head = make("tr", {}, ...columns.map(column => make("th", {scope: "col", textContent: column})));
  const body = rows.map(row => make("tr", {}, ...row.map(value => make("td", {textContent: text(value)}))));
  return table(`${figure.title}: numbers`, [head], body);
}

// Heat maps: tables, which every reader understands

function extent(figure, rows, columns) {
  const [least, most] = figure.possible;
  const [low, high] = d3.extent(rows.flatMap(row => columns.flatMap(column => row[column] ?? [])));
  return [low, high, least, most];
}

function field(figure, row, [low, high]) {
  if (!row) return make("td");
  const t = (row[figure.value] - low) / (high - low || 1);
  const cell = make("td", {textContent: row[figure.text], title: about(figure, row)});
  for (const [name, ramp] of [["a", LIGHT], ["b", DARK]]) {
    cell.style.setProperty(`--${name}`, ramp(t));
    cell.style.setProperty(`--${name}t`, d3.lab(ramp(t)).l > 49 ? "#000" : "#fff");
  }
  return cell;
}

function matrix(figure, title, rows, limits) {
  const [columns, lines] = [figure.x, figure.y].map(name => [...new Set(rows.map(row => row[name]))]);
  const found = d3.rollup(rows, ([first]) => first, row => row[figure.y], row => row[figure.x]);
  const long = columns.length > 4 && Math.max(...columns.map(name => name.length)) > 7 ? "long" : "";
  const head = make("tr", {}, make("th", {}, `${figure.y} ↓`, make("br"), `${figure.x} →`),
    ...columns.map(name => make("th", {scope: "col", className: long}, make("span", {textContent: name}))));
  const body = lines.map(line => make("tr", {}, make("th", {scope: "row", textContent: line}),
    ...columns.map(column => field(figure, found.get(line)?.get(column), limits))));
  return make("div", {className: "matrix"}, make("h4", {textContent: title}), table(`${figure.title}: ${title}`, [head], body));
}

function key(figure, [low, high]) {
  const ramp = make("span", {className: "ramp"});
  for (const [name, colours] of [["a", LIGHT], ["b", DARK]]) {
    ramp.style.setProperty(`--${name}`, `linear-gradient(to right, ${d3.range(0, 1.01, 0.1).map(colours)})`);
  }
  return make("p", {className: "key"}, `${figure.value}: ${d3.format(".4~g")(low)} `, ramp, ` ${d3.format(".4~g")(high)}`);
}

function matrices(figure, panels, rows) {
  const [low, high, least, most] = extent(figure, rows, [figure.value]);
  const limits = [least ?? low, most ?? high];
  const tables = panels.map(([title, some]) => matrix(figure, title, some, limits));
  return [make("div", {className: "matrices"}, ...tables), ...limits[0] < limits[1] ? [key(figure, limits)] : []];
}

// Charts

function about(figure, row) {
  const columns = figure.columns.filter(column => column !== figure.text && row[column] !== null);
  return columns.map(column => `${column}: ${text(row[column])}`).join("\n");
}

const colour = index => `var(--s${index % 8})`;
const SYMBOLS = {circle: d3.symbolCircle, diamond: d3.symbolDiamond, triangle: d3.symbolTriangle, square: d3.symbolSquare};
const symbol = index => ["circle", "diamond", "triangle", "square"][index % 4];
const dash = index => DASHES[(index + Math.floor(index / 8)) % 4];

// Rounds are whole numbers.
function ticks(values, count) {
  const found = d3.ticks(...d3.extent(values), count);
  return values.every(Number.isInteger) ? found.filter(Number.isInteger) : found;
}

function lines(figure, rows, series, width) {
  const {x, y} = figure;
  const few = rows.length < 12 * series.length;
  const many = some => new Set(some.map(row => row[figure.line])).size > 1 ? {strokeWidth: 1.2, strokeOpacity: 0.7} : {strokeWidth: 2};
  const marks = series.flatMap((name, index) => {
    const some = rows.filter(row => row[figure.series] === name);
    return [
      ...figure.line ? [] : [Plot.areaY(some, {x, y1: "low", y2: "high", fill: colour(index), fillOpacity: 0.15, clip: true})],
      Plot.lineY(some, {x, y, z: figure.line || null, stroke: colour(index), strokeDasharray: dash(index), ...many(some), clip: true}),
      ...few ? [Plot.dot(some, {x, y, fill: colour(index), r: 2.5})] : [],
    ];
  });
  return {
    height: Math.min(Math.max(0.65 * width, 200), 300),
    x: {...BELOW, label: x, ticks: ticks(rows.map(row => row[x]), width / 60)},
    y: {label: y, grid: true},
    marks: [...marks, Plot.tip(rows, Plot.pointer({x, y, title: row => about(figure, row)}))],
  };
}

function scale(values, log) {
  const names = [...new Set(values)];
  if (names.some(name => typeof name === "string")) {
    return {type: "point", domain: d3.sort(names, (a, b) => (typeof a > typeof b) - (typeof a < typeof b) || d3.ascending(a, b))};
  }
  return log ? {type: "log", tickFormat: d3.format("~g")} : {nice: true};
}

function points(figure, rows, series, width) {
  const {x, y} = figure;
  const values = rows.map(row => row[x]);
  const [low, high] = d3.extent(values);
  const index = row => series.indexOf(row[figure.series]);
  return {
    height: Math.min(Math.max(0.65 * width, 200), 300),
    x: {...BELOW, label: x, ticks: width / 70, ...scale(values, low > 0 && high / low > 20)},
    y: {label: y, grid: true},
    marks: [
      Plot.dot(rows, {x, y, fill: row => colour(index(row)), symbol: row => symbol(index(row)), r: 4, stroke: "var(--page)"}),
      Plot.tip(rows, Plot.pointer({x, y, title: row => about(figure, row)})),
    ],
  };
}

// Names are on the vertical axis, where they have room.
function dots(figure, rows, series, width) {
  const {x: names, y: value} = figure;
  const letters = Math.floor(width / 18);
  const domain = [...new Set(rows.map(row => row[names]))];
  const alone = domain.length === rows.length;  // there is room for a bar
  const seeds = rows.flatMap(row => (row.values ?? []).map(each => ({...row, [value]: each}))).filter(row => row[value] !== null);
  const index = row => Math.max(series.indexOf(row[figure.series]), 0);
  return {
    height: 70 + 26 * domain.length,
    marginLeft: 14 + 7 * Math.min(letters, Math.max(...domain.map(name => name.length))),
    x: {...BELOW, label: value, grid: true, ticks: width / 80},
    y: {label: null, type: "point", domain, padding: 0.6, tickFormat: name => shorten(name, letters)},
    marks: [
      ...!alone ? [] : [
        Plot.ruleY(rows.filter(row => row.low != null), {y: names, x1: "low", x2: "high", stroke: row => colour(index(row)), strokeWidth: 2, clip: true}),
        Plot.dot(seeds, {y: names, x: value, r: 1.5, fill: "currentColor", dy: 6}),
      ],
      Plot.dot(rows, {y: names, x: value, fill: row => colour(index(row)), symbol: row => symbol(index(row)), r: 4.5, stroke: "var(--page)"}),
      Plot.tip(rows, Plot.pointer({y: names, x: value, title: row => about(figure, row)})),
    ],
  };
}

function chart(figure, title, rows, series, shared, width) {
  const levels = figure.levels.filter(([panel]) => panel === title);
  const across = figure.kind !== "dots";
  const options = {lines, points, dots}[figure.kind](figure, rows, series, width);
  const rule = across ? Plot.ruleY : Plot.ruleX;
  Object.assign(options[across ? "y" : "x"], shared);
  const ruled = levels.map(([, value, label], index) =>
    rule([value], {strokeDasharray: index % 2 ? "5 4" : "2 3", strokeOpacity: 0.6, title: () => label, clip: true}));
  const svg = Plot.plot({width, marginBottom: 40, style: {background: "transparent", fontSize: "12px"}, ...options, marks: [...ruled, ...options.marks]});
  svg.querySelectorAll("[aria-label]").forEach(mark => mark.removeAttribute("aria-label"));  // of parts of an image
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${figure.title}, ${title}. The table below has the numbers.`);
  const note = levels.map(([, value, label]) => `${label}: ${d3.format(".4~g")(value)}`).join("; ");
  return [svg, note ? make("p", {className: "small", textContent: `Dashed: ${note}.`}) : ""];
}

function charts(figure, panels, rows) {
  const series = [...new Set(rows.map(row => row[figure.series]))];
  const hidden = new Set();
  const legend = make("fieldset", {className: "legend"}, make("legend", {textContent: figure.series}),
    ...series.map((name, index) => {
      const box = make("input", {type: "checkbox", checked: true, onchange: () => {
        box.checked ? hidden.delete(name) : hidden.add(name);
        draw();
      }});
      const line = d3.create("svg").attr("width", 26).attr("height", 10).attr("aria-hidden", "true");
      if (figure.kind === "lines") {
        line.append("path").attr("d", "M0,5H26").attr("stroke", colour(index)).attr("stroke-width", 2.5).attr("stroke-dasharray", dash(index));
      } else {
        line.append("path").attr("transform", "translate(13,5)").attr("fill", colour(index))
          .attr("d", d3.symbol(SYMBOLS[symbol(index)], 45));
      }
      return make("label", {}, box, line.node(), name);
    }));
  const places = panels.map(([title]) => make("div", {className: "panel"}, make("h4", {textContent: title}), make("div")));
  const grid = make("div", {className: "panels"}, ...places);

  function domain(shown) {
    const alone = figure.kind === "lines" || panels.every(([, some]) => new Set(some.map(row => row[figure.x])).size === some.length);
    const [low, high, least, most] = extent(figure, shown, [figure.y, ...alone ? ["low", "high", "values"] : []]);
    const [first, last] = d3.extent([low, high, ...figure.levels.map(([, value]) => value)]);
    const pad = 0.04 * (last - first) || 1;
    return [Math.max(first - pad, least ?? -Infinity), Math.min(last + pad, most ?? Infinity)];
  }

  function draw() {
    const width = places[0].clientWidth;
    const shown = rows.filter(row => row[figure.y] !== null && !hidden.has(row[figure.series]));
    const shared = figure.kind === "points" ? scale(shown.map(row => row[figure.y]), figure.log) : {domain: domain(shown)};
    panels.forEach(([title, some], index) => {
      const visible = some.filter(row => shown.includes(row));
      places[index].lastChild.replaceChildren(
        ...visible.length && width ? chart(figure, title, visible, series, shared, width) : ["Nothing is selected."]);
    });
  }

  let last = 0;
  new ResizeObserver(() => {
    if (places[0].clientWidth !== last) {
      last = places[0].clientWidth;
      draw();
    }
  }).observe(grid);
  return [...figure.series && series.length > 1 ? [legend] : [], grid];
}

function show(figure) {
  const place = document.getElementById(figure.name);
  const rows = figure.rows.map(values => Object.fromEntries(values.map((value, index) => [figure.columns[index], value])));
  if (!rows.length) return;
  const panels = d3.groups(rows, row => row[figure.panel]);
  const drawn = (figure.kind === "matrix" ? matrices : charts)(figure, panels, rows);
  const kept = d3.range(figure.columns.length).filter(index => figure.columns[index] !== figure.text);
  const columns = kept.map(index => figure.columns[index]);
  const values = figure.rows.map(row => kept.map(index => row[index]));
  const tools = make("div", {className: "tools"},
    button("CSV", `Save the numbers of ${figure.title} as CSV`, () => save(fileName(document.title, figure.name) + ".csv", "text/csv", csv(columns, values))));
  place.append(...drawn, tools);
  if (figure.kind === "matrix") return;
  tools.append(button("SVG", `Save the charts of ${figure.title} as SVG`, () =>
    place.querySelectorAll(".panel").forEach(panel => {
      const svg = panel.querySelector("svg");
      if (svg) save(fileName(document.title, figure.name, panel.firstChild.textContent) + ".svg", "image/svg+xml", svgFile(svg));
    })));
  const details = make("details", {}, make("summary", {textContent: `Numbers (${rows.length} rows)`}));
  details.addEventListener("toggle", () => details.append(numbers(figure, columns, values)), {once: true});
  place.append(details);
}

// The table of cells

function sortable(whole) {
  const body = whole.tBodies[0];
  const heads = [...whole.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const words = head.classList.contains("text");
    const down = head.ariaSort ? head.ariaSort === "ascending" : !words;
    heads.forEach(other => { other.ariaSort = null; });
    head.ariaSort = down ? "descending" : "ascending";
    const value = row => words ? row.cells[column].textContent : parseFloat(row.cells[column].textContent);
    const order = words ? (a, b) => a.localeCompare(b, undefined, {numeric: true}) : d3.ascending;
    const [known, unknown] = [true, false].map(want => [...body.rows].filter(row => (words || !isNaN(value(row))) === want));
    known.sort((a, b) => order(value(a), value(b)) * (down ? -1 : 1));
    body.append(...known, ...unknown);
  }));
}

function filterable(box, whole, status) {
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    const rows = [...whole.tBodies[0].rows];
    rows.forEach(row => { row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word)); });
    const shown = rows.filter(row => !row.hidden).length;
    status.textContent = shown < rows.length ? `${shown} of ${rows.length} cells are shown.` : "";
  });
}

for (const figure of JSON.parse(document.getElementById("data").textContent)) {
  try {
    show(figure);
  } catch (error) {  // what is wrong with one figure must not cost the others
    document.getElementById(figure.name).append(`This figure cannot be drawn: ${error.message}`);
  }
}
const cells = document.getElementById("cells");
sortable(cells);
filterable(document.getElementById("filter"), cells, document.getElementById("found"));
const scrolls = new ResizeObserver(entries => entries.forEach(({target}) =>
  target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth + 1)));
document.querySelectorAll(".wide").forEach(each => scrolls.observe(each));
