/* The map: a line for each array, one colour for each of its rows; blocks of the model fold. */

const data = dataOf("data");

/* Colours of errors beyond the limit: ever further from the ground of the page, so that they stay in
   order for every kind of colour vision. Apart from these: within the limit, and beyond all numbers. */
const LIGHT = {
  within: [226, 231, 237],
  beyond: [0, 122, 135],
  stops: [
    [255, 222, 100],
    [249, 165, 75],
    [222, 95, 95],
    [150, 42, 122],
    [50, 8, 92],
  ],
};
const DARK = {
  within: [50, 60, 71],
  beyond: [70, 205, 215],
  stops: [
    [140, 50, 160],
    [200, 60, 125],
    [235, 105, 85],
    [250, 175, 80],
    [255, 240, 150],
  ],
};
const dark = matchMedia("(prefers-color-scheme: dark)");
const palette = () => (dark.matches ? DARK : LIGHT);

/* The power of ten that no finite error of the run is above: where the scale ends. */
const TOP = Math.max(
  2,
  Math.ceil(Math.log10(data.lines.flatMap(line => line.rows ?? []).reduce((a, b) => Math.max(a, b), 1))),
);
const CELLS = 256; // that a line is drawn with: no more than there are pixels on a phone

const isBad = line => line.word === "wrong" || line.word === "suspicious";

function colourOf(times) {
  const { within, beyond, stops } = palette();
  if (times === null) return beyond;
  if (times <= 1) return within;
  const x = (Math.log10(times) / TOP) * (stops.length - 1),
    i = Math.min(Math.floor(x), stops.length - 2);
  return stops[i].map((low, n) => Math.round(low + (stops[i + 1][n] - low) * (x - i)));
}

/* The larger of two errors; null, which is beyond all numbers, is the largest. */
const larger = (a, b) => (a === null || b === null ? null : Math.max(a, b));

/* At most CELLS numbers for a line; each is the largest of those that it stands for. */
function cellsOf(rows) {
  const many = Math.min(rows.length, CELLS);
  return Array.from({ length: many }, (_, n) => {
    const [from, to] = [n, n + 1].map(k => Math.floor((k * rows.length) / many));
    return rows.slice(from, to).reduce(larger, 0);
  });
}

function strip(rows) {
  if (!rows?.length) return make("span", { class: "strip none" });
  const canvas = make("canvas");
  canvas.cells = cellsOf(rows);
  paintStrip(canvas);
  return make("span", { class: "strip" }, canvas, make("i", { class: "cursor", hidden: true }));
}

/* One pixel for each cell. Again when the colours change. */
function paintStrip(canvas) {
  [canvas.width, canvas.height] = [canvas.cells.length, 1];
  const pen = canvas.getContext("2d");
  canvas.cells.forEach((times, n) => {
    pen.fillStyle = `rgb(${colourOf(times).join(",")})`;
    pen.fillRect(n, 0, 1, 1);
  });
}

const BLOCK = /^(vision\.blocks|decoder\.layers)\.(\d+)\./;

/* Lines of one block of the model belong together; every other line stands by itself. */
function groupsOf(lines) {
  const groups = [];
  for (const line of lines) {
    const found = BLOCK.exec(line.key),
      name = found ? `${found[1]}.${found[2]}` : "";
    if (name && groups.at(-1)?.name === name) groups.at(-1).lines.push(line);
    else groups.push({ name, lines: [line] });
  }
  return groups;
}

function buildMap() {
  let axis = "";
  for (const group of groupsOf(data.lines)) {
    const kind = axisOf(group.lines[0]);
    if (kind !== axis) $("lines").append(axisLine(group.lines[0]));
    axis = kind;
    $("lines").append(group.name ? blockOf(group) : lineOf(group.lines[0]));
  }
  $("lines").querySelector("button").tabIndex = 0;
}

/* Lines whose rows are the same things stand under one axis. */
const isPlaced = line => line.start !== null && data.places[line.letter] !== undefined;
const axisOf = line => (isPlaced(line) ? `${line.letter} ${line.count}` : "");

function axisLine(line) {
  if (!isPlaced(line))
    return make("div", { class: "axis" }, make("span", {}, "rows of another kind"));
  const name = `${line.count} rows (${line.letter}): ${data.places[line.letter].name}`;
  const ticks = make("span", { class: "ticks", "aria-hidden": "true" });
  const most = line.count - 1,
    step = niceStep(most, 4);
  for (let row = 0; row <= most; row += step)
    ticks.append(placed(make("b", {}, String(row)), (row + 0.5) / line.count));
  return make("div", { class: "axis" }, make("span", {}, name), ticks, spansOf(line));
}

function placed(element, share) {
  element.style.left = `${(100 * share).toFixed(2)}%`;
  return element;
}

/* 1, 2 or 5 times a power of ten: about `many` steps up to `most`. */
function niceStep(most, many) {
  const rough = Math.max(most / many, 1),
    power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
}

/* Which rows are text and which are of which picture, as parts of the axis. */
function spansOf(line) {
  const parts = [];
  for (let row = 0; row < line.count; row++) {
    const medium = data.places[line.letter].at[line.start + row][0][0];
    if (parts.at(-1)?.medium === medium) parts.at(-1).count++;
    else parts.push({ medium, count: 1 });
  }
  if (parts.length < 2) return null;
  const span = ({ medium, count }) => {
    const name = medium < 0 ? "text" : mediumName(medium);
    const facts = { class: medium < 0 ? "text" : "", title: `${name}: ${count} rows` },
      part = make("span", facts, name);
    part.style.flexGrow = count;
    return part;
  };
  return make("span", { class: "spans" }, parts.map(span));
}

function blockOf({ name, lines }) {
  const bad = lines.filter(isBad),
    longest = Math.max(...lines.map(line => line.rows?.length ?? 0)),
    own = lines.filter(line => line.rows?.length === longest && longest);
  const rows = Array.from({ length: longest }, (_, n) =>
    own.map(line => line.rows[n]).reduce(larger, 0),
  );
  const said = bad.length ? `${bad.length} of ${lines.length} wrong` : "right";
  const block = make(
    "details",
    { class: "block", data: { block: name } },
    make(
      "summary",
      { class: "line", tabindex: -1, "aria-label": `${name}: ${said}` },
      make("code", {}, name),
      strip(rows),
      make("span", { class: `times ${bad.length ? "wrong" : "rounding"}` }, said),
    ),
  );
  for (const line of lines) block.append(lineOf(line));
  return block;
}

function lineOf(line) {
  line.strip = strip(line.rows);
  const times = isBad(line) ? line.times : line.word;
  line.button = make(
    "button",
    {
      type: "button",
      class: "line",
      tabindex: -1,
      data: { name: line.name },
      "aria-label": `${line.name}: ${line.word}${isBad(line) ? `, ${line.times}` : ""}`,
      onclick: event => choose(line, rowUnder(line, event)),
    },
    make("code", {}, line.name.replace(BLOCK, "")),
    line.strip,
    make("span", { class: `times ${line.word.replace(" ", "-")}` }, times),
  );
  return line.button;
}

/* The row under the pointer; undefined for a click beside the rows, or with the keyboard. */
function rowUnder(line, event) {
  const box = line.strip.getBoundingClientRect(),
    share = (event.clientX - box.left) / box.width;
  if (!event.detail || !line.rows || share < 0 || share >= 1) return undefined;
  return Math.floor(share * line.rows.length);
}

/* The scale of the colours, and what stands outside of it. */
function buildScale() {
  const colours = Array.from({ length: 13 }, (_, n) => 10 ** ((TOP * (n + 0.01)) / 12)).map(
    times => `rgb(${colourOf(times)})`,
  );
  const bar = make("i");
  bar.style.background = `linear-gradient(90deg, ${colours.join(", ")})`;
  const powers = TOP % 3 ? [0, TOP / 2, TOP].map(Math.floor) : [0, TOP / 3, (2 * TOP) / 3, TOP],
    ticks = powers.map(power => make("b", {}, figure(10 ** power)));
  const swatch = (colour, words) => {
    const box = make("i");
    if (colour) box.style.background = `rgb(${colour.join(",")})`;
    return make("span", { class: `swatch${colour ? "" : " none"}` }, box, words);
  };
  $("scale").replaceChildren(
    make("div", { class: "bar" }, bar, make("span", { class: "under" }, ticks)),
    make("p", {}, `times the limit: what rounding may do to a row in ${data.precision}`),
    swatch(palette().within, "within the limit"),
    swatch(palette().beyond, "not finite, or a whole number that differs"),
    swatch(null, "not compared"),
  );
}
