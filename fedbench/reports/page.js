"use strict";

// Draws the figures that the page describes as data (see figure.py), charts by charts.js, and makes tables sort and
// filter. It never writes HTML from text: names come from a store.

const LIGHT = d3.interpolateBlues;
const DARK = t => d3.interpolateBlues(1 - t);

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
  const head = make("tr", {}, make("th", {}, `${figure.y}\u00a0↓`, make("br"), `${figure.x}\u00a0→`),
    ...columns.map(name => make("th", {scope: "col", className: long}, make("span", {textContent: name}))));
  const body = lines.map(line => make("tr", {}, make("th", {scope: "row", textContent: line}),
    ...columns.map(column => field(figure, found.get(line)?.get(column), limits))));
  return make("div", {className: figure.text ? "matrix" : "matrix small"}, make("h4", {textContent: title}), table(`${figure.title}: ${title}`, [head], body));
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

function show(figure) {
  const place = document.getElementById(figure.name);
  const rows = figure.rows.map(values => Object.fromEntries(values.map((value, index) => [figure.columns[index], value])));
  if (!rows.length) return;
  const panels = d3.groups(rows, row => row[figure.columns[0]]);
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
  const details = make("details", {}, make("summary", {textContent: `Numbers (${rows.length} ${rows.length === 1 ? "row" : "rows"})`}));
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
const contents = document.getElementById("contents");
const wide = matchMedia("(min-width: 75rem)");
wide.onchange = () => { contents.open = wide.matches; };
wide.onchange();
const cells = document.getElementById("cells");
if (cells) {
  sortable(cells);
  filterable(document.getElementById("filter"), cells, document.getElementById("found"));
}
const scrolls = new ResizeObserver(entries => entries.forEach(({target}) =>
  target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth + 1)));
document.querySelectorAll(".wide").forEach(each => scrolls.observe(each));
