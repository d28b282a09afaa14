"use strict";

// Draws the charts of the page, and steps through their points by the keyboard.

const BELOW = {labelAnchor: "center", labelArrow: "none", labelOffset: 34, tickFormat: d3.format("~g")};
const MANY = 24;  // charts of a figure, above which they are folded
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const SYMBOLS = {circle: d3.symbolCircle, diamond: d3.symbolDiamond, triangle: d3.symbolTriangle, square: d3.symbolSquare};

function about(figure, row) {
  const columns = figure.columns.slice(1).filter(column => column !== figure.text && row[column] !== null);
  return columns.map(column => `${column}: ${text(row[column])}`).join("\n");
}

const colour = index => `var(--s${index % 8})`;
const symbol = index => ["circle", "diamond", "triangle", "square"][index % 4];
const dash = index => DASHES[(index + Math.floor(index / 8)) % 4];

// The axis of numbers, such as whole rounds, or of names in their order, of which as many are shown as have room.
function steps(values, width) {
  if (typeof values[0] === "number") {
    const ticks = d3.ticks(...d3.extent(values), width / 60);
    return {x: {...BELOW, ticks: values.every(Number.isInteger) ? ticks.filter(Number.isInteger) : ticks}};
  }
  const domain = [...new Set(values)];
  const every = Math.ceil(16 * domain.length / width);
  const ticks = domain.filter((_, index) => (domain.length - 1 - index) % every === 0);
  return {marginBottom: 80, x: {type: "point", domain, ticks, tickRotate: -45, label: null}};
}

function lines(figure, rows, series, width) {
  const {x, y} = figure;
  const many = some => new Set(some.map(row => row[figure.line])).size > 1 ? {strokeWidth: 1.2, strokeOpacity: 0.7} : {strokeWidth: 2};
  const marks = series.flatMap((name, index) => {
    const some = rows.filter(row => row[figure.series] === name);
    return [
      ...figure.line ? [] : [Plot.areaY(some, {x, y1: "low", y2: "high", fill: colour(index), fillOpacity: 0.15, clip: true})],
      Plot.lineY(some, {x, y, z: figure.line || null, stroke: colour(index), strokeDasharray: dash(index), ...many(some), clip: true}),
      ...some.length === 1 ? [Plot.ruleX(some, {x, y1: "low", y2: "high", stroke: colour(index), clip: true})] : [],
      ...some.length < 12 ? [Plot.dot(some, {x, y, fill: colour(index), r: 2.5})] : [],
    ];
  });
  const failed = Plot.dot(rows.filter(row => row.failed), {x, y, symbol: "times", stroke: "var(--bad)", strokeWidth: 2.5, r: 5});
  const {x: axis, ...rest} = steps(rows.map(row => row[x]), width);
  return {
    height: Math.min(Math.max(0.65 * width, 200), 300),
    ...rest,
    x: {label: x, ...axis},
    y: {label: y, grid: true},
    marks: [...marks, failed],
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
    inset: 8,
    x: {...BELOW, label: x, ticks: width / 70, ...scale(values, low > 0 && high / low > 20)},
    y: {label: y, grid: true},
    marks: [Plot.dot(rows, {x, y, fill: row => colour(index(row)), symbol: row => symbol(index(row)), r: 4, stroke: "var(--page)"})],
  };
}

// Names are on the vertical axis, where they have room; what all begin with is its title.
function dots(figure, rows, series, width) {
  const {x: names, y: value} = figure;
  const letters = Math.floor(width / 18);
  const domain = [...new Set(rows.map(row => row[names]))];
  const [start, end] = d3.extent(domain);
  const shared = [...start].findIndex((letter, index) => letter !== end[index]);
  const same = domain.length > 1 && start.slice(0, shared).match(/.*\p{L} /u)?.[0] || "";
  const labels = new Map(domain.map(name => [name, shorten(name.slice(same.length), letters)]));
  const alone = domain.length === rows.length;  // there is room for a bar
  const seeds = rows.flatMap(row => (row.values ?? []).map(each => ({...row, [value]: each}))).filter(row => row[value] !== null);
  const index = row => Math.max(series.indexOf(row[figure.series]), 0);
  return {
    height: (same ? 70 : 54) + 26 * domain.length,
    marginTop: same ? 20 : 4,
    marginLeft: 14 + 7 * d3.max(labels.values(), label => label.length),
    x: {...BELOW, label: value, grid: true, ticks: width / 80},
    y: {label: same.trim() || null, labelAnchor: "top", labelArrow: "none", type: "point", domain, padding: 0.6, tickFormat: name => labels.get(name)},
    marks: [
      ...!alone ? [] : [
        Plot.ruleY(rows.filter(row => row.low != null), {y: names, x1: "low", x2: "high", stroke: row => colour(index(row)), strokeWidth: 2, clip: true}),
        Plot.dot(seeds, {y: names, x: value, r: 1.5, fill: "currentColor", dy: 6}),
      ],
      Plot.dot(rows, {y: names, x: value, fill: row => colour(index(row)), symbol: row => symbol(index(row)), r: 4.5, stroke: "var(--page)"}),
    ],
  };
}

// The numbers of the row under the mouse are shown, or of the row that is `chosen`.
function chart(figure, title, rows, series, shared, width, chosen) {
  const levels = figure.levels.filter(([panel]) => panel === title);
  const across = figure.kind !== "dots";
  const options = {lines, points, dots}[figure.kind](figure, rows, series, width);
  const rule = across ? Plot.ruleY : Plot.ruleX;
  const [x, y] = across ? [figure.x, figure.y] : [figure.y, figure.x];
  const ring = {x, y, r: 7, stroke: "currentColor", strokeWidth: 1.5};
  const rings = [Plot.dot(rows, Plot.pointer(ring)), Plot.dot(chosen ? [chosen] : [], ring)];
  Object.assign(options[across ? "y" : "x"], shared);
  const ruled = levels.map(([, value, label], index) =>
    rule([value], {strokeDasharray: index % 2 ? "5 4" : "2 3", strokeOpacity: 0.6, title: () => label, clip: true}));
  const svg = Plot.plot({width, marginBottom: 40, style: {background: "transparent", fontSize: "12px"}, ...options, marks: [...ruled, ...options.marks, ...rings]});
  svg.querySelectorAll("[aria-label]").forEach(mark => mark.removeAttribute("aria-label"));  // of parts of an image
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${figure.title}, ${title}. The table below has the numbers.`);
  const notes = levels.filter(([, , label]) => label).map(([, value, label], index) => `${index % 2 ? "Dashed" : "Dotted"}: ${label}, ${d3.format(".4~g")(value)}.`);
  const tip = make("div", {className: "tip", hidden: true});
  const tell = row => {
    tip.hidden = !row;
    if (!row) return;
    tip.textContent = about(figure, row);
    const [left, top] = [svg.scale("x").apply(row[x]), svg.scale("y").apply(row[y])];
    tip.style.left = `${Math.max(0, Math.min(left - tip.offsetWidth / 2, width - tip.offsetWidth))}px`;
    tip.style.top = `${top < options.height / 2 ? top + 12 : top - tip.offsetHeight - 12}px`;
  };
  svg.addEventListener("input", () => tell(svg.value));
  requestAnimationFrame(() => tell(chosen));  // once it has a size
  return [svg, tip, notes.length ? make("p", {className: "small", textContent: notes.join(" ")}) : ""];
}

// A slider that nobody sees steps through the points of a chart, by the keyboard and by a screen reader's gestures. Up
// and down lead to the next line or name.
function stepper(figure, title, visible, show) {
  const slider = make("input", {type: "range", className: "stepper", min: 0, value: 0, "aria-label": `${figure.title}, ${title}: points`});
  const group = figure.kind === "dots" ? figure.x : figure.line || figure.series;
  const groups = () => d3.groups(visible(), row => row[group]).map(([, some]) => some);
  const points = () => groups().flat();
  const move = () => {
    const row = points()[slider.value];
    slider.setAttribute("aria-valuetext", row ? about(figure, row).replaceAll("\n", "; ") : "Nothing is selected.");
    show(row);
  };
  slider.oninput = slider.onfocus = move;
  slider.onblur = () => show();
  slider.onkeydown = event => {
    const by = {ArrowUp: -1, ArrowDown: 1}[event.key];
    if (!by) return;
    event.preventDefault();
    const row = points()[slider.value];
    const next = groups()[groups().findIndex(some => some.includes(row)) + by];
    if (!next) return;
    slider.value = points().indexOf(next.find(each => each[figure.x] === row[figure.x]) ?? next[0]);
    move();
  };
  return slider;
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
  const sliders = panels.map(([title, some], index) =>
    stepper(figure, title, () => some.filter(isShown), row => drawPanel(index, row)));
  const places = panels.map(([title], index) => make("div", {className: "panel"}, make("h4", {textContent: title}), sliders[index], make("div")));
  const grid = make("div", {className: "panels"}, ...places);

  function domain(shown) {
    const alone = figure.kind === "lines" || panels.every(([, some]) => new Set(some.map(row => row[figure.x])).size === some.length);
    const [low, high, least, most] = extent(figure, shown, [figure.y, ...alone ? ["low", "high", "values"] : []]);
    const [first, last] = d3.extent([low, high, ...figure.levels.map(([, value]) => value)]);
    if (figure.is_log) return [first / 1.1, last * 1.1];
    const pad = 0.04 * (last - first) || 1;
    return [Math.max(first - pad, least ?? -Infinity), Math.min(last + pad, most ?? Infinity)];
  }

  function isShown(row) {
    return row[figure.y] !== null && !hidden.has(row[figure.series]);
  }

  function drawPanel(index, chosen) {
    const [title, some] = panels[index];
    const width = places[index].clientWidth;
    const shown = rows.filter(isShown);
    const visible = some.filter(isShown);
    const shared = figure.kind === "points" ? scale(shown.map(row => row[figure.y]), figure.is_log)
      : {domain: domain(shown), ...figure.is_log ? {type: "log", tickFormat: BELOW.tickFormat} : {}};
    sliders[index].max = visible.length - 1;
    places[index].lastChild.replaceChildren(
      ...visible.length && width ? chart(figure, title, visible, series, shared, width, chosen) : ["Nothing is selected."]);
  }

  const draw = () => panels.forEach((_, index) => drawPanel(index));

  let last = 0;
  new ResizeObserver(() => {
    if (places[0].clientWidth !== last) {
      last = places[0].clientWidth;
      draw();
    }
  }).observe(grid);
  const many = panels.length > MANY ? make("details", {}, make("summary", {textContent: `${panels.length} charts`}), grid) : grid;
  return [...figure.series && series.length > 1 ? [legend] : [], many];
}
