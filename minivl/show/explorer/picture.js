/* The picture: its frame under a map, patches, windows, the selection; mouse, finger and keys on it. */

function drawPicture(view) {
  const { run, number, canvas } = view,
    medium = run.media[state.medium];
  const [height, width] = medium.size,
    ratio = window.devicePixelRatio || 1;
  const shown = Math.min(canvas.parentElement.clientWidth || 300, (0.72 * innerHeight * width) / height);
  canvas.style.width = `${shown}px`;
  canvas.width = Math.round(shown * ratio);
  canvas.height = Math.round((canvas.width * height) / width);
  const brush = canvas.getContext("2d"),
    scale = canvas.width / width,
    map = mapOf(run, number);
  const frame = medium.images[Math.min(state.time, medium.images.length - 1)];
  const patch = run.patch * scale,
    ground = getComputedStyle(document.body).getPropertyValue("--sunken");
  brush.fillStyle = ground;
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.imageSmoothingEnabled = scale < 1;
  if (!map || !state.only)
    brush.drawImage(map ? frame.pale : frame.image, 0, 0, canvas.width, canvas.height);
  if (map) drawMap(brush, run, map, patch, ratio);
  if (state.patches) drawGrid(brush, run, medium, patch, ratio);
  if (state.windows) drawWindows(brush, run, patch, ratio);
  drawSelection(brush, run, number, patch, ratio);
  if (map && state.numbers) writeNumbers(brush, run, map, patch, ratio);
  view.map = map;
  readOut(view);
  view.title.textContent = map ? map.title : "the picture as the model sees it";
  view.note.textContent = map ? map.note : noMapReason(run, number);
  drawScale(view, map);
}

function noMapReason(run, number) {
  if (state.map === "apart" && number > 0) return "the difference is drawn on the first run";
  if (state.map === "stage")
    return state.stage
      ? `the rows of ${state.stage} are neither patches nor cells nor tokens: there is no map of them`
      : "choose a stage in the list";
  if (rowsOf(run, selectionFor(number), state.unit) === null)
    return "the selection has no counterpart in this run";
  return `${run.media[state.medium].size[1]} x ${run.media[state.medium].size[0]} pixels`;
}

const here = place => place[0] === state.medium && place[1] === state.time;

/* Corners of a patch on whole pixels of the canvas, so that neighbours meet without a seam. */
function square([, , row, column], patch) {
  const [x, y] = [Math.round(column * patch), Math.round(row * patch)];
  return [x, y, Math.round((column + 1) * patch) - x, Math.round((row + 1) * patch) - y];
}

function drawMap(brush, run, map, patch, ratio) {
  const unseen = hatch(brush, ratio);
  map.values.forEach((value, row) => {
    const share = shareOf(map, value),
      opacity = state.only ? 1 : opacityOf(share);
    brush.fillStyle = Number.isFinite(value) ? `rgba(${colourOf(share).join(",")},${opacity})` : unseen;
    for (const at of run.places[map.letter][row]) if (here(at)) brush.fillRect(...square(at, patch));
  });
}

/* What is not seen is hatched: a weight of zero is something else. */
function hatch(brush, ratio) {
  const tile = document.createElement("canvas"),
    size = Math.round(7 * ratio);
  tile.width = tile.height = size;
  const line = tile.getContext("2d");
  line.fillStyle = "rgba(70,80,92,.22)";
  line.fillRect(0, 0, size, size);
  line.strokeStyle = "rgba(30,38,48,.38)";
  line.lineWidth = ratio;
  for (const x of [-size, 0, size]) {
    line.moveTo(x, size);
    line.lineTo(x + size, 0);
  }
  line.stroke();
  return brush.createPattern(tile, "repeat");
}

function drawGrid(brush, run, medium, patch, ratio) {
  const [, rows, columns] = medium.grid;
  for (const [step, width, colour] of [
    [1, 0.5, "rgba(0,0,0,.25)"],
    [run.merge, 1, "rgba(0,0,0,.5)"],
  ]) {
    brush.beginPath();
    for (let x = step; x < columns; x += step) {
      brush.moveTo(x * patch, 0);
      brush.lineTo(x * patch, rows * patch);
    }
    for (let y = step; y < rows; y += step) {
      brush.moveTo(0, y * patch);
      brush.lineTo(columns * patch, y * patch);
    }
    brush.strokeStyle = colour;
    brush.lineWidth = width * ratio;
    brush.stroke();
  }
}

function drawWindows(brush, run, patch, ratio) {
  for (const w of run.windows.filter(one => one.medium === state.medium && one.time === state.time))
    outline(brush, w, patch, ratio, 1.5, "#ffffff", "#000000", ratio);
}

/* A dark line beside a light one, so that it shows on anything. */
function outline(brush, box, patch, ratio, width, light, dark, inset) {
  const [x, y] = [box.left * patch, box.top * patch];
  const [w, h] = [(box.right - box.left) * patch, (box.bottom - box.top) * patch];
  for (const [colour, line] of [
    [dark, width + 2],
    [light, width],
  ]) {
    brush.strokeStyle = colour;
    brush.lineWidth = line * ratio;
    brush.strokeRect(x + inset, y + inset, w - 2 * inset, h - 2 * inset);
  }
}

function drawSelection(brush, run, number, patch, ratio) {
  const rows = rowsOf(run, selectionFor(number), state.unit);
  if (rows === null) return;
  const { room, number: block } = place();
  const inside = rows.places.filter(here);
  if (inside.length && room === "vision") {
    // the segment: what this block lets it see
    const table = run.segments[block],
      box = segmentBox(run, table, table.of[rows.w[0]]);
    brush.setLineDash([7 * ratio, 5 * ratio]);
    outline(brush, box, patch, ratio, 2, "#ffb000", "#000000", 2 * ratio);
    brush.setLineDash([]);
  }
  if (inside.length) outline(brush, boundsOf(inside), patch, ratio, 3, "#ff6db6", "#000000", 0);
  if (view_peek && here(view_peek))
    outline(brush, boundsOf([view_peek]), patch, ratio, 2, "#ffffff", "#000000", 0);
}

let view_peek = null; // the place that a list points at, for a moment

function boundsOf(places) {
  const rows = places.map(p => p[2]),
    columns = places.map(p => p[3]);
  return {
    top: Math.min(...rows),
    left: Math.min(...columns),
    bottom: Math.max(...rows) + 1,
    right: Math.max(...columns) + 1,
  };
}

/* The value in each square, where there is room for it. */
function writeNumbers(brush, run, map, patch, ratio) {
  const size = map.letter === "p" || map.letter === "w" ? patch : patch * run.merge;
  if (size < 25 * ratio) return;
  brush.font = `${Math.min(size / 2.9, 13 * ratio)}px ui-monospace, "DejaVu Sans Mono", monospace`;
  brush.textAlign = "center";
  brush.textBaseline = "middle";
  brush.lineWidth = 2.5 * ratio;
  map.values.forEach((value, row) => {
    const inside = run.places[map.letter][row].filter(here);
    if (!Number.isFinite(value) || !inside.length) return;
    const box = boundsOf(inside),
      x = ((box.left + box.right) / 2) * patch,
      y = ((box.top + box.bottom) / 2) * patch;
    const light = shareOf(map, value) < 0.45,
      text = brief(value, map.share);
    if (text === "~0" && size < 50 * ratio) return;
    brush.strokeStyle = light ? "rgba(255,255,255,.55)" : "rgba(0,0,0,.55)";
    brush.strokeText(text, x, y);
    brush.fillStyle = light ? "#000" : "#fff";
    brush.fillText(text, x, y);
  });
}

/* The colours and what they stand for. */
function drawScale(view, map) {
  view.scale.hidden = !map || !Number.isFinite(map.most);
  if (view.scale.hidden) return;
  const steps = Array.from({ length: 9 }, (_, n) => `rgb(${colourOf(n / 8).join(",")})`);
  view.scale.children[1].style.background = `linear-gradient(90deg, ${steps.join(", ")})`;
  view.scale.children[0].textContent = figure(map.least);
  view.scale.children[2].textContent = figure(map.most);
}

/* ---- pointing ------------------------------------------------------------------------------- */

function placeUnder(view, event) {
  const box = view.canvas.getBoundingClientRect(),
    medium = view.run.media[state.medium];
  const [, rows, columns] = medium.grid;
  const x = ((event.clientX - box.left) / box.width) * medium.size[1],
    y = ((event.clientY - box.top) / box.height) * medium.size[0];
  const inside = (n, most) => Math.min(Math.max(Math.floor(n / view.run.patch), 0), most - 1);
  return {
    kind: "cell",
    medium: state.medium,
    time: state.time,
    row: inside(y, rows),
    column: inside(x, columns),
    pixel: [Math.floor(x), Math.floor(y)],
  };
}

function pointAt(view, event) {
  const found = (view.under = placeUnder(view, event));
  readOut(view);
  if (!state.pinned && event.type === "pointermove" && event.pointerType !== "mouse") return;
  if (event.type === "click") state.pinned = !(state.pinned && sameCell(found));
  if (!state.pinned || event.type === "click") select(found);
}

function sameCell(found) {
  const now = state.selection;
  return (
    now?.kind === "cell" && ["medium", "time", "row", "column"].every(name => now[name] === found[name])
  );
}

/* The number under the pointer. */
function readOut(view) {
  if (!view.under) return;
  const { medium, time, row, column, pixel } = view.under,
    map = view.map,
    at = view.run.rowAt[map?.letter ?? "p"].get(placeKey(medium, time, row, column));
  const value = map ? map.values[at] : undefined;
  const said = !map ? "" : Number.isFinite(value) ? `${figure(value)} at ` : "not seen: ";
  view.readout.textContent =
    `${said}${rowName(view.run, map?.letter ?? "p", at)}` + (pixel ? `, pixel (${pixel})` : "");
}

/* Arrow keys move by one patch, token or window. */
function moveBy(view, down, across) {
  const { run } = view,
    now = selectionFor(view.number),
    [, rows, columns] = run.media[state.medium].grid;
  if (now?.kind !== "cell" || now.medium !== state.medium)
    return select({ kind: "cell", medium: state.medium, time: state.time, row: 0, column: 0 });
  const step = state.unit === "patch" ? 1 : run.merge;
  let { row, column } = now;
  if (state.unit === "window" && run.windows.length) {
    const box = windowOf(run, run.rowAt.w.get(placeKey(now.medium, now.time, row, column)));
    row = down > 0 ? box.bottom : down < 0 ? box.top - 1 : row;
    column = across > 0 ? box.right : across < 0 ? box.left - 1 : column;
  } else {
    row += down * step;
    column += across * step;
  }
  if (row < 0 || column < 0 || row >= rows || column >= columns) return;
  view.under = { kind: "cell", medium: state.medium, time: state.time, row, column };
  select(view.under);
}
