/* The state, what changes it, and the start. Every change ends in `refresh`, which draws from it. */

const state = {
  selection: null, // {kind: "cell", medium, time, row, column} or {kind: "text", s, run}
  pinned: false, // a click holds the selection while the pointer moves on
  unit: "token", // patch, token or window
  map: "from", // from, to, stage, apart, off
  vision: 0,
  decoder: 0, // the block and the layer whose attention is drawn
  room: "vision", // which of the two a visual token shows; text has the decoder only
  head: -1, // -1 is the mean of heads
  stage: "",
  array: 0, // of the map "stage"
  medium: 0,
  time: 0, // the frame that is drawn
  patches: true,
  windows: true,
  numbers: true,
  only: false,
};
let page = null,
  views = [];

/* The room and block that the map is about. */
function place() {
  const room = state.selection?.kind === "text" ? "decoder" : state.room;
  return { room, number: state[room] };
}

/* The selection as one of the runs sees it: rows of text are matched by the document's table. */
function selectionFor(number) {
  const selection = state.selection;
  if (selection?.kind !== "text" || !page.pair || selection.run === number) return selection;
  const s = number === 1 ? page.pair.rows[selection.s] : page.pair.rows.indexOf(selection.s);
  return s < 0 ? null : { ...selection, s, run: number };
}

function select(selection) {
  if (selection.kind === "cell")
    Object.assign(state, { medium: selection.medium, time: selection.time });
  state.selection = selection;
  refresh();
}

function showStage(label, array) {
  Object.assign(state, { map: "stage", stage: label, array });
  const found = GROUP.exec(label);
  if (found) {
    state[found[1] === "vision.blocks" ? "vision" : "decoder"] = Number(found[2]);
    state.room = found[1] === "vision.blocks" ? "vision" : "decoder";
  }
  refresh();
}

function showFrame(medium, time) {
  Object.assign(state, { medium, time });
  if (state.selection?.kind === "cell") select({ ...state.selection, medium, time });
  else refresh();
}

/* Another block, layer by layer through the tower and on into the decoder. */
function stepPlace(by) {
  const options = [...$("place").options].map(option => option.value),
    now = options.indexOf($("place").value);
  setPlace(options[Math.min(Math.max(now + by, 0), options.length - 1)]);
}

function setPlace(value) {
  const [room, number] = value.split(" ");
  state[room] = Number(number);
  state.room = room;
  if (room === "vision" && state.selection?.kind === "text")
    state.selection = state.lastCell ?? placeSelection([state.medium, state.time, 0, 0]);
  if (state.map === "stage" || state.map === "off") state.map = "from";
  refresh();
}

/* ---- drawing -------------------------------------------------------------------------------- */

let asked = false;
function refresh() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

function draw() {
  if (state.selection?.kind === "cell") state.lastCell = state.selection;
  for (const view of views) {
    drawPicture(view);
    paintFilm(view);
    paintSequence(view);
    showFacts(view);
    showWeights(view);
    showLens(view);
    showNorms(view);
    paintStages(view);
  }
  const { room, number } = place();
  $("place").value = `${room} ${number}`;
  for (const name of ["unit", "map", "head"]) $(name).value = state[name];
  for (const name of ["patches", "windows", "numbers", "only"]) $(name).checked = state[name];
  $("pin").setAttribute("aria-pressed", state.pinned);
  $("now").textContent = nowWords();
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
}

/* One sentence for those who cannot see the picture. */
function nowWords() {
  const view = views[0],
    map = view.map;
  const what = `Selected: ${nameOf(view.run, 0)}${state.pinned ? ", held" : ""}.`;
  if (!map) return what;
  return Number.isFinite(map.most)
    ? `${what} ${map.title}: from ${figure(map.least)} to ${figure(map.most)} on the picture.`
    : `${what} ${map.title}: ${map.note}.`;
}

/* ---- the start ------------------------------------------------------------------------------ */

function makeViews() {
  const column = (id, tag, facts) =>
    page.runs.map(run => {
      const element = make(tag, facts);
      $(id).append(
        page.runs.length > 1 && id !== "pictures"
          ? make("div", { class: "side" }, make("h3", { class: "name" }, sideName(run)), element)
          : element,
      );
      return element;
    });
  const boxes = {
    sequence: column("sequences", "div", {
      class: "chips",
      role: "listbox",
      "aria-label": "tokens of the prompt and the answer",
    }),
    facts: column("facts", "dl", {}),
    weights: column("weights", "div", { tabindex: -1 }),
    lens: column("lens", "div"),
    norms: column("norms", "div", { tabindex: -1 }),
    stages: column("stages", "div"),
  };
  const pictures = column("pictures", "figure");
  views = page.runs.map((run, number) => {
    const parts = {
      run,
      number,
      title: make("strong"),
      note: make("span", { class: "quiet" }),
      readout: make("div", { class: "readout" }),
      film: make("div", { class: "film", role: "group", "aria-label": "frames" }),
      stageNote: make("div", { class: "readout" }),
      scale: make("div", { class: "scale" }, make("span"), make("i"), make("span")),
      canvas: make("canvas", {
        tabindex: 0,
        role: "application",
        "aria-label": "the picture; arrow keys move, Enter holds",
        "aria-describedby": "now",
      }),
    };
    for (const [name, list] of Object.entries(boxes)) parts[name] = list[number];
    pictures[number].append(
      page.runs.length > 1 ? make("h3", { class: "name" }, sideName(run)) : "",
      make("figcaption", {}, parts.title, parts.note),
      parts.canvas,
      parts.scale,
      parts.readout,
      parts.film,
      parts.stageNote,
    );
    return parts;
  });
}

const sideName = run => `${"AB"[page.runs.indexOf(run)]}: ${run.question} \u2192 ${run.answer}`;

/* Picture, question and answer at the head of the page. */
function headOf(run) {
  const pictures = run.media.map(medium =>
    make("img", {
      src: medium.frames[0],
      alt: `${medium.kind}, ${medium.size[1]} x ${medium.size[0]} pixels`,
    }),
  );
  const letter =
    page.runs.length > 1 ? make("span", { class: "quiet" }, `${"AB"[page.runs.indexOf(run)]} `) : null;
  return make(
    "div",
    { class: "asked" },
    make("div", { class: "thumbs" }, pictures.slice(0, 3)),
    make(
      "div",
      {},
      make("h1", {}, letter, run.question),
      make("p", { class: "answer" }, run.answer),
      run.name ? make("p", { class: "quiet" }, run.name) : null,
    ),
  );
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function wire(view) {
  const { canvas } = view;
  canvas.addEventListener("pointermove", event => pointAt(view, event));
  canvas.addEventListener("click", event => pointAt(view, event));
  canvas.addEventListener("keydown", event => {
    const step = STEPS[event.key];
    if (step && !event.ctrlKey && !event.altKey && !event.metaKey) moveBy(view, ...step);
    else if (event.key === "Enter" || event.key === " ") {
      state.pinned = !state.pinned;
      refresh();
    } else return;
    event.preventDefault();
  });
  view.stages.addEventListener("keydown", event => walkStages(view, event));
  new ResizeObserver(refresh).observe(canvas.parentElement);
}

function fillControls() {
  const run = page.runs[0];
  for (const [room, label] of [
    ["vision", "tower"],
    ["decoder", "decoder"],
  ])
    $("place").append(
      make(
        "optgroup",
        { label },
        run.attention
          .filter(one => one.room === room)
          .map(one => make("option", { value: `${room} ${one.number}` }, placeName(run, one))),
      ),
    );
  const heads = Math.max(...run.attention.map(one => one.heads));
  $("head").append(
    make("option", { value: -1 }, "mean of heads"),
    ...Array.from({ length: heads > 1 ? heads : 0 }, (_, n) =>
      make("option", { value: n }, `head ${n}`),
    ),
  );
  if (!page.pair) $("map").querySelector("[value=apart]").remove();
  if (!run.windows.length) $("unit").querySelector("[value=window]").remove();
  $("place").addEventListener("change", event => setPlace(event.target.value));
  for (const name of ["unit", "map"])
    $(name).addEventListener("change", event => {
      state[name] = event.target.value;
      refresh();
    });
  $("head").addEventListener("change", event => {
    state.head = Number(event.target.value);
    refresh();
  });
  for (const name of ["patches", "windows", "numbers", "only"])
    $(name).addEventListener("change", event => {
      state[name] = event.target.checked;
      refresh();
    });
  $("pin").addEventListener("click", () => {
    state.pinned = !state.pinned;
    refresh();
  });
  $("before").addEventListener("click", () => stepPlace(-1));
  $("after").addEventListener("click", () => stepPlace(1));
}

/* Keys that work anywhere but where letters are typed or a list is open. */
const KEYS = {
  "[": () => stepPlace(-1),
  "]": () => stepPlace(1),
  h: () => {
    const count = $("head").options.length;
    state.head = ((state.head + 2) % count) - 1;
  },
  m: () => cycle("map"),
  u: () => cycle("unit"),
  p: () => {
    state.patches = !state.patches;
  },
  w: () => {
    state.windows = !state.windows;
  },
  n: () => {
    state.numbers = !state.numbers;
  },
  o: () => {
    state.only = !state.only;
  },
  ",": () => stepFrame(-1),
  ".": () => stepFrame(1),
  Escape: () => {
    state.pinned = false;
  },
  "?": () => {
    $("help").open = !$("help").open;
  },
};

function cycle(name) {
  const options = [...$(name).options].map(option => option.value);
  state[name] = options[(options.indexOf(state[name]) + 1) % options.length];
}

function stepFrame(by) {
  const frames = views[0].frames,
    now = frames.findIndex(one => one.medium === state.medium && one.time === state.time);
  const { medium, time } = frames[Math.min(Math.max(now + by, 0), frames.length - 1)];
  showFrame(medium, time);
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.tagName === "SELECT" || !KEYS[event.key]) return;
  KEYS[event.key]();
  event.preventDefault();
  refresh();
});

async function start() {
  page = await readDocument();
  for (const run of page.runs) {
    indexRows(run);
    indexWeights(run);
    await loadFrames(run);
  }
  makeViews();
  fillControls();
  for (const view of views) {
    buildSequence(view);
    buildStages(view);
    buildFilm(view);
    wire(view);
  }
  const run = page.runs[0];
  $("heads").replaceChildren(...page.runs.map(headOf));
  document.body.classList.toggle("two", page.runs.length > 1);
  state.selection = { kind: "text", s: run.prompt - 1, run: 0 }; // it wrote the first token
  state.decoder = mostLooking(run, run.prompt - 1);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.querySelectorAll("canvas.bins").forEach(paintBins);
    refresh();
  });
  draw();
  document.body.dataset.ready = "yes";
}

start().catch(error => {
  $("trouble").hidden = false;
  $("trouble").textContent =
    `This page could not be read: ${error.message}. A browser of 2023 or later is needed.`;
  throw error;
});
