/* The diff page: what goes wrong first, the map, the chosen stage on the picture. Data: compare/page.py.
   Every change ends in `show`, which draws from the state. */

const state = {
  line: null, // the array that is shown
  drawn: null, // the array on the picture: the same, or where its rows have no place the next wrong one
  column: null, // of its columns, the one that is pointed at
  patch: null, // of the picture, the one that is pointed at
  columns: new Map(), // patch -> column of what is drawn
};
const narrow = matchMedia("(max-width: 899px)");

const figure = value =>
  value >= 1e9 || (value < 1e-3 && value > 0)
    ? value.toExponential(1)
    : Number(value.toPrecision(2)).toLocaleString("en");

/* ---- what goes wrong first ------------------------------------------------------------------ */

function showFirst() {
  document.querySelector("h1").textContent = data.title;
  $("runs").textContent = data.runs;
  $("first-title").textContent = data.bad ? "What goes wrong first" : "What comes nearest to its limit";
  const pairs = [["stage", goTo(data.first)], ...data.facts];
  for (const [n, [name, words]] of pairs.entries())
    $("facts").append(
      make("dt", {}, pairs[n - 1]?.[0] === name ? "" : name),
      make("dd", name === "verdict" ? { class: words } : {}, words),
    );
  $("causes").append(...diagnosis(), ...knownFaults());
  $("said").textContent = data.said.join("\n");
  $("notice").textContent = data.notice;
  $("notes").hidden = !data.notes.length;
  $("notes").lastChild.append(...data.notes.map(words => make("li", {}, words)));
}

/* A button that shows a stage; words where the map has no such line. */
function goTo(name) {
  const line = data.lines.find(one => one.name === name || one.key === name);
  if (!line) return make("code", {}, name);
  return make("button", { type: "button", class: "go", onclick: () => choose(line) }, name);
}

/* What a diagnosis says, and the passes that may be guilty. */
function diagnosis() {
  const parts = [];
  if (data.looks_like.length) {
    const [first, ...reasons] = data.looks_like;
    parts.push(
      make("p", { class: "likely" }, first),
      make("ul", {}, reasons.map(words => make("li", {}, words))),
    );
  }
  const few = data.suspects.slice(-6),
    left = data.suspects.length - few.length;
  if (few.length)
    parts.push(
      make("h3", {}, few.length > 1 ? "One of these passes is guilty" : "The guilty pass"),
      make("p", { class: "goes" }, few.map(goTo), left ? `and ${left} before` : null),
    );
  return parts;
}

/* What others got wrong in these passes. */
function knownFaults() {
  if (!data.faults.length) return [];
  const one = ({ name, seen, incidents }) =>
    make(
      "li",
      {},
      make("b", {}, name.replaceAll("-", " ")),
      `: ${seen} `,
      incidents.flatMap(([text, address]) => [
        make("a", { href: address, rel: "noreferrer" }, text),
        " ",
      ]),
    );
  const said = `Known bugs of other programs in these passes: ${data.faults.length}`;
  return [
    make(
      "details",
      { class: "known", open: data.faults.length < 3 },
      make("summary", {}, said),
      make("ul", {}, data.faults.map(one)),
      make(
        "p",
        { class: "quiet" },
        make("code", {}, "minivl diagnose"),
        " tries each of them on the values of this run.",
      ),
    ),
  ];
}

/* ---- the chosen stage ----------------------------------------------------------------------- */

function choose(line, column) {
  const block = line.button.closest("details");
  if (block) block.open = true;
  state.line = line;
  state.drawn = drawnFor(line);
  state.columns = columnsByPatch(state.drawn);
  state.column = column ?? worstColumn(line);
  state.patch = null;
  if (narrow.matches && state.moved) line.button.after($("shown"));
  state.moved = true;
  for (const other of $("lines").querySelectorAll(".line")) other.tabIndex = -1;
  line.button.tabIndex = 0;
  show();
}

/* The array itself; if its rows have no place in a picture, the next wrong one whose rows have. */
function drawnFor(line) {
  const behind = data.lines.slice(data.lines.indexOf(line));
  return inPicture(line) ? line : (behind.find(one => isBad(one) && inPicture(one)) ?? line);
}

const inPicture = line => line.rows?.some((_, column) => patchesOf(line, column).length) ?? false;

/* The column with the largest error, where something is wrong; null beats every number. */
function worstColumn(line) {
  if (!line.rows?.length || !isBad(line)) return null;
  return line.rows.indexOf(line.rows.reduce(larger, 0));
}

function show() {
  const { line } = state;
  for (const other of data.lines) {
    other.button.setAttribute("aria-pressed", other === line);
    const cursor = other.strip.querySelector(".cursor");
    if (!cursor) continue;
    cursor.hidden = other !== line || state.column === null;
    if (!cursor.hidden) placed(cursor, (state.column + 0.5) / line.rows.length);
  }
  $("shown-name").textContent = line.name;
  $("shown-word").textContent = isBad(line) ? `${line.word}, ${line.times}` : line.word;
  $("shown-word").className = line.word.replace(" ", "-");
  $("shown-what").textContent = line.what;
  $("cell").textContent = cellWords();
  const { drawn } = state;
  $("instead").hidden = drawn === line;
  $("instead").replaceChildren(
    "Its rows have no place in a picture. Drawn is the next wrong stage: ",
    goTo(drawn.name),
  );
  data.views.forEach(drawPicture);
}

/* The row that is pointed at, in words. */
function cellWords() {
  const { line, column, patch } = state;
  if (!line.rows) return line.word === "not compared" ? "The candidate's trace has no such stage." : "";
  if (column === null)
    return patch ? "No row of this stage lies at this patch." : "Every row is within its limit.";
  const times = line.rows[column],
    first = column * line.step,
    last = Math.min(first + line.step, line.count) - 1;
  const rows = last > first ? `rows ${first}..${last}, the worst of them` : `row ${first}`;
  const size =
    times === null
      ? "not finite, or a whole number that differs"
      : `${figure(times)} times the limit`;
  return `${rows}: ${size}${placeWords(patchesOf(line, column))}`;
}

function placeWords(patches) {
  if (!isPlaced(state.line)) return "";
  if (!patches.length) return "; a token of text";
  const [m, time] = patches[0],
    { grid, size } = data.media[m],
    side = [size[0] / grid[1], size[1] / grid[2]];
  const range = n => {
    const all = patches.filter(p => p[0] === m && p[1] === time).map(p => p[2 + n]);
    return `${Math.min(...all) * side[n]}..${(Math.max(...all) + 1) * side[n]}`;
  };
  const when = grid[0] > 1 ? `, frame pair ${time}` : "";
  return `; ${mediumName(m)}${when}, pixels x ${range(1)}, y ${range(0)}`;
}

/* ---- walking through the map ---------------------------------------------------------------- */

/* Whether a line is there: not in a block that is shut. */
const isOpen = line => line.tagName === "SUMMARY" || !line.closest("details:not([open])");

function walkLines(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const lines = [...$("lines").querySelectorAll(".line")].filter(isOpen),
    now = lines.indexOf(document.activeElement),
    step = { ArrowDown: 1, ArrowUp: -1 }[event.key],
    next = { Home: 0, End: lines.length - 1 }[event.key] ?? (step ? now + step : undefined);
  if (now < 0) return;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") return stepColumn(event);
  if (next === undefined) return;
  event.preventDefault();
  focusLine(lines[Math.min(Math.max(next, 0), lines.length - 1)]);
}

function focusLine(element) {
  const line = data.lines.find(one => one.button === element);
  if (line) choose(line);
  for (const other of $("lines").querySelectorAll(".line")) other.tabIndex = other === element ? 0 : -1;
  element.focus();
}

function stepColumn(event) {
  const { line, column } = state;
  if (line.button !== document.activeElement || !line.rows?.length) return;
  event.preventDefault();
  const by = event.key === "ArrowRight" ? 1 : -1;
  state.column = column === null ? 0 : Math.min(Math.max(column + by, 0), line.rows.length - 1);
  state.patch = null;
  show();
}

/* Another wrong stage, in the order of the run; focused, so that the arrow keys go on from there. */
function goBad(by) {
  const now = data.lines.indexOf(state.line),
    ahead = by > 0 ? data.lines.slice(now + 1) : data.lines.slice(0, Math.max(now, 0)).reverse(),
    found = ahead.find(isBad);
  if (found) bring(found);
}

function bring(line) {
  choose(line);
  line.button.focus({ preventScroll: true });
  line.button.scrollIntoView({ block: "nearest" });
}

const firstLine = () => data.lines.find(line => line.name === data.first) ?? data.lines[0];

const KEYS = { f: () => bring(firstLine()), n: () => goBad(1), p: () => goBad(-1) };

function wire() {
  $("lines").addEventListener("keydown", walkLines);
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
    KEYS[event.key]();
  });
  $("go-first").addEventListener("click", KEYS.f);
  $("go-next").addEventListener("click", KEYS.n);
  $("go-first").disabled = $("go-next").disabled = !data.bad;
  $("open-all").addEventListener("click", () => {
    const open = $("open-all").getAttribute("aria-pressed") !== "true";
    document.querySelectorAll(".block").forEach(block => (block.open = open));
    $("open-all").setAttribute("aria-pressed", open);
  });
  narrow.addEventListener("change", () => {
    if (narrow.matches) state.line.button.after($("shown"));
    else $("home").append($("shown"));
  });
  dark.addEventListener("change", () => {
    document.querySelectorAll(".strip canvas").forEach(paintStrip);
    buildScale();
    show();
  });
}

/* ---- all numbers ---------------------------------------------------------------------------- */

function showTable() {
  const side = n => (n > 1 ? "number" : "");
  const head = data.columns.map((name, n) => make("th", { class: side(n), scope: "col" }, name));
  document.querySelector("#stages thead").append(make("tr", {}, head));
  for (const row of data.table) {
    const cells = row.map((cell, n) =>
      make("td", { class: n === 1 ? cell : side(n), data: { column: data.columns[n] } }, cell),
    );
    document.querySelector("#stages tbody").append(make("tr", {}, cells));
  }
}

async function start() {
  await loadFrames();
  buildScale();
  buildMap();
  buildPictures();
  showFirst();
  showTable();
  wire();
  choose(firstLine());
  document.body.dataset.ready = "";
}

start().catch(error => {
  document.querySelector("h1").textContent = `This page could not be drawn: ${error.message}`;
  throw error;
});
