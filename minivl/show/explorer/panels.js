/* The panels beside the picture: the sequence, what is selected, who it looks at, what the decoder would
   say, how the stream grows, the list of stages. Each is made anew from the state: they are small. */

/* New contents for a box. Whatever had the focus in it has it again: the control with the same key, else
   the one at the same place in the list, else the box, so that the next Tab goes on from here. */
function refill(box, ...children) {
  const buttons = () => [...box.querySelectorAll("button")];
  const focused = document.activeElement,
    at = buttons().indexOf(focused);
  box.replaceChildren(...children);
  if (at < 0) return;
  const now = buttons(),
    same = now.find(button => button.dataset.key === focused.dataset.key);
  (same ?? now[Math.min(at, now.length - 1)] ?? box).focus({ preventScroll: true });
}

/* ---- the sequence --------------------------------------------------------------------------- */

/* Tokens in order; a run of visual tokens is one box, because the picture shows them. */
function sequenceParts(run) {
  const parts = [];
  for (let s = 0; s < run.count; s++) {
    const medium = isText(run, s) ? -1 : run.places.s[s][0][0];
    if (medium >= 0 && parts.at(-1)?.medium === medium) parts.at(-1).end = s + 1;
    else parts.push({ start: s, end: s + 1, medium });
  }
  return parts;
}

function buildSequence(view) {
  const { run } = view;
  view.parts = sequenceParts(run);
  view.chips = view.parts.map(part => {
    const visual = part.medium >= 0,
      count = part.end - part.start;
    const text = visual
      ? `${several(count, "visual token")} of ${run.media[part.medium].kind} ${part.medium + 1}`
      : run.tokens[part.start];
    const chip = make(
      "button",
      {
        type: "button",
        role: "option",
        tabindex: -1,
        data: { row: part.start },
        class: `chip${visual ? " visual" : ""}${part.start >= run.prompt ? " said" : ""}`,
        title: visual ? `rows ${part.start}..${part.end - 1}` : `row ${part.start}`,
      },
      text,
    );
    chip.addEventListener(
      "pointermove",
      event => event.pointerType === "mouse" && !state.pinned && selectRow(view, part.start),
    );
    chip.addEventListener("click", () => {
      state.pinned = true;
      selectRow(view, part.start);
    });
    return chip;
  });
  const last = run.tokens[run.count];
  view.sequence.replaceChildren(
    ...view.chips,
    last
      ? make(
          "span",
          { class: "chip end", title: "the last token that was written; it was not fed back" },
          last,
        )
      : "",
  );
  view.sequence.addEventListener("keydown", event => walkChips(view, event));
}

function selectRow(view, s) {
  select(isText(view.run, s) ? { kind: "text", s, run: view.number } : cellOfRow(view.run, s));
}

function walkChips(view, event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const now = view.chips.indexOf(document.activeElement);
  const next = { Home: 0, End: view.chips.length - 1 }[event.key] ?? (step ? now + step : undefined);
  if (next === undefined || now < 0) return;
  event.preventDefault();
  const chip = view.chips[Math.min(Math.max(next, 0), view.chips.length - 1)];
  chip.focus();
  selectRow(view, Number(chip.dataset.row));
}

/* Which tokens are selected, and how much attention each gets. */
function paintSequence(view) {
  const { run, number } = view,
    rows = rowsOf(run, selectionFor(number), state.unit);
  const map = view.map?.attention?.room === "decoder" ? view.map.values : null;
  const most = map ? map.reduce((a, b) => (Number.isNaN(b) ? a : Math.max(a, b)), 0) : 0;
  view.parts.forEach((part, n) => {
    const chip = view.chips[n],
      on = rows !== null && rows.s.some(s => part.start <= s && s < part.end);
    chip.setAttribute("aria-selected", on);
    chip.tabIndex = on || (n === 0 && !rows?.s.length) ? 0 : -1;
    let sum = NaN;
    for (let s = part.start; map && s < part.end; s++)
      if (!Number.isNaN(map[s])) sum = (sum || 0) + map[s];
    chip.style.setProperty("--weight", map && sum > 0 ? Math.min(sum / most, 1) : 0);
    chip.dataset.weight = map && sum >= 0.0005 ? brief(sum, true) : "";
  });
}

/* ---- what is selected ----------------------------------------------------------------------- */

function factsOf(view) {
  const { run, number } = view,
    selection = selectionFor(number),
    rows = rowsOf(run, selection, state.unit);
  if (rows === null) return [["", "no counterpart in this run"]];
  const s = rows.s[0],
    facts = [];
  if (selection.kind === "text") facts.push(["token", `"${run.tokens[s]}", id ${run.ids[s]}`]);
  else facts.push(...pictureFacts(run, selection, rows));
  const author = s >= run.prompt ? ", written by the model" : "";
  facts.push(["sequence (s)", `row${rows.s.length > 1 ? "s" : ""} ${spans(rows.s)}${author}`]);
  facts.push(["MRoPE", positionWords(run, rows.s)]);
  if (page.pair && number === 0) facts.push(["apart", apartWords(rows)]);
  return facts;
}

function pictureFacts(run, selection, rows) {
  const medium = run.media[selection.medium],
    box = boundsOf(rows.places),
    size = run.patch;
  const pixels = [box.left, box.top, box.right, box.bottom].map(n => n * size);
  const facts = [["pixels", boxWords(pixels) + ` of ${medium.size[1]} x ${medium.size[0]}`]];
  if (run.media.length > 1)
    facts.push([
      medium.kind,
      `number ${selection.medium + 1} of ${run.media.length} pictures and videos`,
    ]);
  if (medium.grid[0] > 1) facts.push(["time", timeWords(run, selection)]);
  if (medium.source) {
    const [down, across] = [medium.source[0] / medium.size[0], medium.source[1] / medium.size[1]];
    const source = pixels.map((n, i) => n * (i % 2 ? down : across));
    facts.push(["in the source", boxWords(source) + ` of ${medium.source[1]} x ${medium.source[0]}`]);
  }
  const cell = run.places.c[rows.c[0]][0];
  facts.push(
    ["patches (p)", `row${rows.p.length > 1 ? "s" : ""} ${spans(rows.p)} as cut`],
    ["window order (w)", `row${rows.w.length > 1 ? "s" : ""} ${spans(rows.w)}`],
  );
  facts.push(...segmentFacts(run, rows));
  if (rows.c.length === 1)
    facts.push([
      "2x2 cell (c)",
      `cell ${rows.c[0]} in window order; row ${cell[2] / run.merge}, column ${cell[3] / run.merge}`,
    ]);
  else facts.push(["2x2 cells (c)", `cells ${spans(rows.c)} in window order`]);
  facts.push([`visual token${rows.m.length > 1 ? "s" : ""} (m)`, spans(rows.m)]);
  return facts;
}

function timeWords(run, { medium, time }) {
  const { grid, seconds } = run.media[medium];
  return (
    `pair of frames ${time} of 0..${grid[0] - 1}` + (seconds ? `, ${figure(time * seconds)} s` : "")
  );
}

/* What the selection sees in the tower, once for each kind of block. */
function segmentFacts(run, rows) {
  const kinds = new Map();
  run.segments.forEach((table, block) => {
    const g = table.of[rows.w[0]],
      words = `w ${table[4 * g]}..${table[4 * g + 1] - 1}`;
    kinds.set(words, [...(kinds.get(words) ?? []), block]);
  });
  return [...kinds].map(([words, blocks]) => {
    const full = blocks.every(block => run.full.includes(block)),
      mixed = !full && blocks.some(b => run.full.includes(b));
    const g = run.segments[blocks[0]].of[rows.w[0]];
    return [
      `sees in block${blocks.length > 1 ? "s" : ""} ${spans(blocks)}`,
      full
        ? `the whole frame: ${words}`
        : mixed
          ? `window and whole frame are the same: ${words}`
          : `window ${g}: ${words}`,
    ];
  });
}

const boxWords = ([x0, y0, x1, y1]) => `x ${figure(x0)}..${figure(x1)}, y ${figure(y0)}..${figure(y1)}`;

function positionWords(run, rows) {
  const axis = n => {
    const values = rows.map(s => run.positions[n * run.count + s]),
      [least, most] = [Math.min(...values), Math.max(...values)];
    return least === most ? `${least}` : `${least}..${most}`;
  };
  return `time ${axis(0)}, height ${axis(1)}, width ${axis(2)}`;
}

function apartWords(rows) {
  const { room, number } = place(),
    table = page.pair[room],
    width = table.shape[1];
  const own = (room === "vision" ? rows.w : rows.s).map(row => table[number * width + row]);
  if (!own.length) return "text has no row in the tower";
  const most = Math.max(...own);
  return Number.isNaN(most)
    ? "no counterpart in the other run"
    : `${figure(most)} after ${room === "vision" ? "tower block" : "decoder layer"} ${number}` +
        `${own.length > 1 ? ", at most" : ""}${most === 0 ? ": the same numbers" : ""}`;
}

function showFacts(view) {
  view.facts.replaceChildren(
    ...factsOf(view).flatMap(([name, words]) => [make("dt", {}, name), make("dd", {}, words)]),
  );
}

/* ---- attention in numbers ------------------------------------------------------------------- */

function showWeights(view) {
  const { run, map } = view;
  if (!map?.attention)
    return refill(view.weights, make("p", { class: "quiet" }, weightlessWords(view)));
  const rows = [...map.values.keys()]
    .filter(i => Number.isFinite(map.values[i]))
    .sort((a, b) => map.values[b] - map.values[a]);
  const sum = rows.reduce((total, i) => total + map.values[i], 0),
    top = rows.slice(0, 8);
  const rest = sum - top.reduce((total, i) => total + map.values[i], 0),
    toward = state.map === "to";
  const lines = top.map(i =>
    bar(map.values[i], map.values[top[0]], figure(map.values[i]), rowName(run, map.letter, i), {
      data: { key: `${map.letter} ${i}` },
      onpointerenter: () => peekAt(run.places[map.letter][i][0] ?? null),
      onpointerleave: () => peekAt(null),
      onfocus: event =>
        event.target.matches(":focus-visible") && peekAt(run.places[map.letter][i][0] ?? null),
      onblur: () => peekAt(null),
      onclick: () => {
        state.pinned = true;
        select(
          run.places[map.letter][i].length
            ? placeSelection(run.places[map.letter][i][0])
            : { kind: "text", s: i, run: view.number },
        );
      },
    }),
  );
  const left = rows.length - top.length;
  const others = left > 0 ? `${several(left, "other row")}: ${figure(rest)}. ` : "";
  const rounded = toward ? "" : " (1 but for the rounding of float16)";
  const share = map.letter === "s" ? `; on pictures: ${figure(visualShare(run, map.values))}` : "";
  refill(
    view.weights,
    make("p", { class: "quiet" }, `${map.title}; ${map.how}`),
    make("ol", { class: "bars" }, lines),
    make("p", { class: "quiet" }, `${others}Together ${sum.toFixed(4)}${rounded}${share}.`),
  );
}

function weightlessWords(view) {
  if (rowsOf(view.run, selectionFor(view.number), state.unit) === null)
    return "The selection has no counterpart in this run.";
  const maps = "\u201cwhere it looks\u201d or \u201cwho looks at it\u201d";
  return `The map shows something else. Choose ${maps} over the picture.`;
}

const placeSelection = ([medium, time, row, column]) => ({ kind: "cell", medium, time, row, column });

function peekAt(at) {
  view_peek = at;
  views.forEach(drawPicture);
}

/* One line of a list: a bar, its number, what it stands for. A button when it does something. */
function bar(value, most, number, words, actions = null, mark = "") {
  const width = `${((100 * Math.max(value, 0)) / (most || 1)).toFixed(2)}%`;
  const line = make(
    actions ? "button" : "span",
    { class: `bar ${mark}`, type: actions ? "button" : null, ...(actions ?? {}) },
    make("span", { class: "track" }, make("span", { class: "fill" })),
    make("b", {}, number),
    make("span", { class: "what" }, words),
  );
  line.querySelector(".fill").style.width = width;
  return make("li", {}, line);
}

/* ---- what the decoder would say ------------------------------------------------------------- */

/* The row that is read: the selected one, of several the first. */
function lensRow(view) {
  const rows = rowsOf(view.run, selectionFor(view.number), state.unit);
  return rows === null || !rows.s.length ? -1 : rows.s[0];
}

function showLens(view) {
  const { run } = view,
    { ids, chances, chosen, first } = run.lens,
    row = lensRow(view),
    at = row - first;
  if (row < 0)
    return view.lens.replaceChildren(make("p", { class: "quiet" }, "No such row in this run."));
  if (at < 0)
    return view.lens.replaceChildren(
      make(
        "p",
        { class: "quiet" },
        `Read for rows from ${first} on only, which wrote the answer: more would take too long.`,
      ),
    );
  const [layers, rows, shown] = ids.shape,
    cell = (layer, k) => (layer * rows + at) * shown + k;
  const next = row + 1 >= run.prompt ? run.written[row + 1 - run.prompt] : undefined;
  const head = make(
    "tr",
    {},
    make("th", { scope: "col" }, "after"),
    ["likeliest", "2nd", "3rd"].map(w => make("th", { scope: "col" }, w)),
  );
  const lines = Array.from({ length: layers }, (_, layer) =>
    make(
      "tr",
      layer === layers - 1 ? { class: "own" } : {},
      make(
        "th",
        { scope: "row" },
        layer === layers - 1 ? `layer ${layer}: the model` : `layer ${layer}`,
      ),
      [0, 1, 2]
        .filter(k => k < shown)
        .map(k => lensCell(run, ids[cell(layer, k)], chances[cell(layer, k)], next)),
    ),
  );
  const last = Array.from({ length: shown }, (_, k) => [
    ids[cell(layers - 1, k)],
    chances[cell(layers - 1, k)],
  ]);
  if (next !== undefined && !last.some(([id]) => id === next)) last.push([next, chosen[at]]);
  view.lens.replaceChildren(
    make("p", { class: "quiet" }, lensWords(view, row, next)),
    make(
      "ol",
      { class: "bars next" },
      last.map(([id, p]) =>
        bar(p, 1, percent(p), run.words[id] ?? run.tokens[row + 1], null, id === next ? "written" : ""),
      ),
    ),
    make("h3", {}, "If it stopped after layer ..."),
    make(
      "div",
      { class: "wide" },
      make("table", { class: "lens" }, make("thead", {}, head), make("tbody", {}, lines)),
    ),
  );
}

function lensWords(view, row, next) {
  const { run } = view,
    several_ =
      rowsOf(run, selectionFor(view.number), state.unit).s.length > 1
        ? " (the first of those selected)"
        : "";
  const after = isText(run, row) ? `"${run.tokens[row]}"` : "this visual token";
  return (
    `After row ${row}, ${after}${several_}. ` +
    (next === undefined
      ? "Nothing was written here: the prompt goes on."
      : `Written: "${run.tokens[row + 1]}".`)
  );
}

function lensCell(run, id, chance, next) {
  const cell = make(
    "td",
    { class: id === next ? "written" : null },
    make("span", { class: "word" }, run.words[id]),
    make("small", {}, percent(chance)),
  );
  cell.style.setProperty("--weight", chance);
  return cell;
}

/* ---- how the stream grows ------------------------------------------------------------------- */

const STREAM = [
  /^vision\.(embed_patches|blocks\.\d+\.add_mlp|restore_order)$/,
  /^decoder\.(place_features|layers\.\d+\.add_mlp)$/,
];

/* The residual stream of the selection: tower, merger, decoder; rms of its rows in each. */
function streamOf(run, rows) {
  const found = [];
  for (const stage of run.stages) {
    const array = stage.arrays[0];
    if (!STREAM.some(part => part.test(stage.label))) continue;
    if (!array?.rows || !rows[array.letter].length) continue;
    const own = rows[array.letter].map(row => array.rows[row]);
    found.push({
      label: stage.label,
      rms: Math.sqrt(own.reduce((sum, x) => sum + x * x, 0) / own.length),
      letter: array.letter,
      count: own.length,
    });
  }
  return found;
}

function showNorms(view) {
  const { run } = view,
    rows = rowsOf(run, selectionFor(view.number), state.unit);
  if (rows === null)
    return refill(
      view.norms,
      make("p", { class: "quiet" }, "The selection has no counterpart in this run."),
    );
  const stream = streamOf(run, rows),
    most = Math.max(...stream.map(one => one.rms));
  refill(
    view.norms,
    make(
      "ol",
      { class: "bars stream" },
      stream.map(({ label, rms, letter, count }) =>
        bar(
          rms,
          most,
          figure(rms),
          count > 1 ? `${label}, over ${count} rows (${letter})` : label,
          { data: { key: label }, onclick: () => showStage(label, 0) },
          label.startsWith("vision") ? "tower" : "",
        ),
      ),
    ),
  );
}

/* ---- stages --------------------------------------------------------------------------------- */

const GROUP = /^(vision\.blocks|decoder\.layers)\.(\d+)\./;

function buildStages(view) {
  const groups = [];
  for (const stage of view.run.stages) {
    const found = GROUP.exec(stage.label),
      name = found ? `${found[1]}.${found[2]}` : "";
    if (name && groups.at(-1)?.name === name) groups.at(-1).stages.push(stage);
    else groups.push({ name, stages: [stage] });
  }
  view.stages.replaceChildren(
    ...groups.map(group => (group.name ? blockOf(view, group) : stageLine(view, group.stages[0]))),
  );
  view.stages.querySelectorAll("summary").forEach(line => {
    line.tabIndex = -1;
  });
  view.stages.querySelector("button.stage").tabIndex = 0;
}

function blockOf(view, { name, stages }) {
  const number = Number(name.split(".").at(-1)),
    tower = name.startsWith("vision");
  const kind = tower
    ? view.run.full.includes(number)
      ? "whole frame"
      : "windows"
    : "causal, grouped heads";
  const attention = view.run.attention.find(
    one => (one.room === "vision") === tower && one.number === number,
  );
  const check =
    attention.error === null || attention.error > 1e-2
      ? `weights of q and k do NOT give what attend gave (${figure(attention.error)})`
      : `q, k and v give what attend gave, within ${figure(attention.error)}`;
  return make(
    "details",
    { class: "block", data: { block: name } },
    make(
      "summary",
      {},
      make("code", {}, name),
      make("span", { class: "quiet" }, ` ${several(stages.length, "stage")}; ${kind}`),
    ),
    make("p", { class: "quiet" }, check),
    stages.map(stage => stageLine(view, stage)),
  );
}

/* One line a stage; the one that is chosen opens to what it is and gives. */
function stageLine(view, stage) {
  const first = stage.arrays[0];
  const line = make(
    "button",
    {
      type: "button",
      class: "stage",
      tabindex: -1,
      data: { label: stage.label },
      onclick: () => showStage(stage.label, 0),
    },
    histogram(first),
    make("code", {}, stage.label.replace(GROUP, "")),
    make(
      "span",
      { class: "shape" },
      stage.arrays.length > 1 ? several(stage.arrays.length, "array") : `[${first.shape.join(", ")}]`,
    ),
  );
  const more = make(
    "div",
    { class: "more", hidden: true, data: { of: stage.label } },
    make("div", { class: "quiet contract" }, stage.contract),
    make("p", {}, stage.what),
    stage.runs > 1 ? make("p", {}, `It ran ${stage.runs} times; shapes are of the first run.`) : null,
    stage.arrays.slice(0, 3).map((array, n) => arrayLine(stage, array, n)),
    stage.arrays.length > 3
      ? make("p", {}, `and ${several(stage.arrays.length - 3, "more array")}`)
      : null,
  );
  return make("div", {}, line, more);
}

function arrayLine(stage, array, n) {
  const facts = array.rows
    ? {
        type: "button",
        title: "draw its rows on the picture",
        data: { stage: stage.label, array: n },
        onclick: () => showStage(stage.label, n),
      }
    : {};
  return make(
    array.rows ? "button" : "div",
    { class: "array", ...facts },
    histogram(array),
    make("span", { class: "shape" }, `${array.dtype} [${array.shape.join(", ")}]`),
    make(
      "span",
      { class: "quiet" },
      `${figure(array.least)}..${figure(array.most)}, rms ${figure(array.rms)}`,
    ),
  );
}

function histogram(array) {
  const canvas = make("canvas", {
    width: 96,
    height: 28,
    class: "bins",
    role: "img",
    "aria-label": `histogram from ${figure(array.least)} to ${figure(array.most)}`,
  });
  canvas.bins = array.bins;
  paintBins(canvas);
  return canvas;
}

/* Counts on a root scale, so that rare values show beside a peak. Again when the colours change. */
function paintBins(canvas) {
  const most = Math.sqrt(Math.max(...canvas.bins, 1)),
    brush = canvas.getContext("2d"),
    step = 96 / canvas.bins.length;
  brush.clearRect(0, 0, 96, 28);
  brush.fillStyle = getComputedStyle(document.body).getPropertyValue("--accent");
  canvas.bins.forEach((count, i) => {
    const height = count ? Math.max((Math.sqrt(count) / most) * 27, 1) : 0;
    brush.fillRect(i * step, 28 - height, step - 0.8, height);
  });
}

/* The stage that is chosen, the block whose attention is drawn, what the selection has in that stage. */
function paintStages(view) {
  const { run } = view,
    rows = rowsOf(run, selectionFor(view.number), state.unit),
    chosen = state.map === "stage" ? state.stage : "";
  for (const button of view.stages.querySelectorAll("button.array"))
    button.setAttribute(
      "aria-pressed",
      button.dataset.stage === chosen && Number(button.dataset.array) === state.array,
    );
  for (const button of view.stages.querySelectorAll("button.stage"))
    button.setAttribute("aria-pressed", button.dataset.label === chosen);
  for (const more of view.stages.querySelectorAll(".more")) {
    const shut = more.dataset.of !== chosen;
    if (shut && more.contains(document.activeElement)) more.previousSibling.focus();
    more.hidden = shut;
  }
  const { room, number } = place(),
    now = `${room === "vision" ? "vision.blocks" : "decoder.layers"}.${number}`;
  for (const block of view.stages.querySelectorAll("details.block")) {
    block.classList.toggle("now", block.dataset.block === now);
    if (chosen.startsWith(`${block.dataset.block}.`)) block.open = true;
  }
  const stage = run.stages.find(one => one.label === chosen),
    array = stage?.arrays[state.array],
    own = array?.rows && rows ? rows[array.letter] : [];
  view.stageNote.textContent = own.length
    ? `here: ${own
        .slice(0, 4)
        .map(row => figure(array.rows[row]))
        .join(", ")}${own.length > 4 ? ", ..." : ""} ` +
      `(row${own.length > 1 ? "s" : ""} ${spans(own)} of ${array.letter})`
    : "";
}

/* Up and down in the list: one stop of the tab key for all of it. */
function walkStages(view, event) {
  const lines = [...view.stages.querySelectorAll("button.stage, summary")].filter(
    line => line.tagName === "SUMMARY" || !line.closest("details:not([open])"), // in no block that is shut
  );
  const now = lines.indexOf(document.activeElement),
    step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const next = { Home: 0, End: lines.length - 1 }[event.key] ?? (step ? now + step : undefined);
  if (next === undefined || now < 0) return;
  event.preventDefault();
  const line = lines[Math.min(Math.max(next, 0), lines.length - 1)];
  for (const other of lines) other.tabIndex = other === line ? 0 : -1;
  line.focus();
}

/* ---- time ----------------------------------------------------------------------------------- */

/* Pictures of a prompt and pairs of frames of a video, in order, each with its share of the map. */
function buildFilm(view) {
  const frames = view.run.media.flatMap((medium, m) =>
    medium.frames.map((url, time) => ({ medium: m, time, url })),
  );
  view.film.hidden = frames.length < 2; // a single picture stands at the head of the page
  view.frames = frames.map(({ medium, time, url }) => ({
    medium,
    time,
    button: make(
      "button",
      { type: "button", class: "frame", onclick: () => showFrame(medium, time) },
      make("img", { src: url, alt: "" }),
      make("span", {}, frameName(view.run, medium, time)),
      make("small", {}),
    ),
  }));
  view.film.replaceChildren(...view.frames.map(frame => frame.button));
}

function frameName(run, medium, time) {
  const { grid, seconds, kind } = run.media[medium];
  return grid[0] === 1
    ? `${kind} ${medium + 1}`
    : seconds
      ? `${figure(time * seconds)} s`
      : `pair ${time}`;
}

function paintFilm(view) {
  for (const { medium, time, button } of view.frames) {
    const map = view.map,
      inside = row => view.run.places[map.letter][row].some(at => at[0] === medium && at[1] === time);
    button.setAttribute("aria-pressed", medium === state.medium && time === state.time);
    let sum = NaN;
    if (map?.share)
      map.values.forEach((value, row) => {
        if (Number.isFinite(value) && inside(row)) sum = (sum || 0) + value;
      });
    button.lastChild.textContent = !map?.share ? "" : Number.isNaN(sum) ? "not seen" : brief(sum, true);
  }
}
