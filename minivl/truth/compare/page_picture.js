/* The error on the picture: each patch in the colour of the row that it belongs to. Patches and rows are
   matched by the tables of the trace; nothing is computed here from sizes. */

const AXIS = { left: 34, bottom: 20 }; // pixels of the page beside and under the picture, for its axes
const patchKey = (medium, time, y, x) => `${medium} ${time} ${y} ${x}`;

/* "picture 1", or "video 1": numbered from 1 among all. */
function mediumName(medium) {
  const kind = data.media[medium]?.kind === "video" ? "video" : "picture";
  return `${kind} ${medium + 1}`;
}

const viewName = (medium, time) =>
  mediumName(medium) + (data.media[medium].grid[0] > 1 ? `, frame pair ${time}` : "");

/* Patches of a column of a line: [medium, time, row, column] each; none where it is text. */
function patchesOf(line, column) {
  if (!isPlaced(line)) return [];
  const from = line.start + column * line.step,
    to = Math.min(from + line.step, line.start + line.count);
  return data.places[line.letter].at
    .slice(from, to)
    .flat()
    .filter(patch => patch[0] >= 0);
}

/* Patch -> the column of the line that it lies in. */
function columnsByPatch(line) {
  const found = new Map();
  line.rows?.forEach((_, column) => {
    for (const patch of patchesOf(line, column)) found.set(patchKey(...patch), column);
  });
  return found;
}

async function loadFrames() {
  for (const medium of data.media)
    medium.images = await Promise.all(
      medium.frames.map(async url => {
        const image = new Image();
        image.src = url;
        await image.decode();
        return image;
      }),
    );
}

/* A canvas for each picture and each pair of frames; they stay, so that the focus does. */
function buildPictures() {
  data.views = data.media.flatMap((medium, m) =>
    Array.from({ length: medium.grid[0] }, (_, time) => {
      const canvas = make("canvas", {
        tabindex: 0,
        role: "application",
        "aria-label": `${viewName(m, time)}: arrow keys move`,
        "aria-describedby": "cell",
      });
      const view = { medium: m, time, canvas, caption: make("figcaption") };
      canvas.addEventListener("click", event => choosePatch(view, ...patchUnder(view, event)));
      canvas.addEventListener("keydown", event => walkPatches(view, event));
      $("pictures").append(make("figure", {}, view.caption, canvas));
      return view;
    }),
  );
  $("pictures").classList.toggle("many", data.views.length > 1);
  new ResizeObserver(() => data.views.forEach(drawPicture)).observe($("pictures"));
}

function drawPicture(view) {
  const { medium: m, time, canvas } = view,
    medium = data.media[m],
    [height, width] = medium.size,
    ratio = devicePixelRatio || 1;
  const room = Math.max(canvas.parentElement.clientWidth - AXIS.left - 2, 60),
    scale = Math.min(room / width, (0.5 * innerHeight) / height);
  canvas.style.width = `${width * scale + AXIS.left + 2}px`;
  canvas.width = Math.round((width * scale + AXIS.left + 2) * ratio);
  canvas.height = Math.round((height * scale + AXIS.bottom + 2) * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  drawAxes(pen, width, height, scale);
  pen.translate(AXIS.left, 1);
  pen.scale(scale, scale);
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = "#8d959e";
  pen.fillRect(0, 0, width, height);
  pen.globalAlpha = 0.6;
  const frame = medium.images[Math.min(time, medium.images.length - 1)];
  if (frame) pen.drawImage(frame, 0, 0, width, height);
  const drawn = drawErrors(pen, view);
  drawChosen(pen, view, 2.5 / scale);
  view.caption.textContent =
    `${viewName(m, time)}, ${width} x ${height} pixels` +
    (drawn ? "" : ": no row of this stage lies here");
}

function drawAxes(pen, width, height, scale) {
  const style = getComputedStyle(document.body);
  pen.fillStyle = pen.strokeStyle = style.getPropertyValue("--quiet");
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "center";
  const step = niceStep(width, Math.max(width * scale, 120) / 60),
    down = niceStep(height, Math.max(height * scale, 80) / 40);
  for (let x = 0; x <= width; x += step) {
    pen.fillRect(AXIS.left + x * scale, height * scale + 1, 1, 4);
    if ((width - x) * scale > 12 || x + step > width)
      pen.fillText(x, AXIS.left + Math.min(x * scale, width * scale - 8), height * scale + 16);
  }
  pen.textAlign = "right";
  for (let y = 0; y <= height; y += down) {
    pen.fillRect(AXIS.left - 4, 1 + y * scale, 4, 1);
    pen.fillText(y, AXIS.left - 6, Math.max(y * scale + 4, 10));
  }
}

/* Each patch of the stage in its colour; rows within the limit let the picture through. Gives whether any
   lies here. */
function drawErrors(pen, { medium: m, time }) {
  const { drawn: line, columns } = state,
    { grid, size } = data.media[m],
    side = [size[1] / grid[2], size[0] / grid[1]];
  let some = false;
  for (const [key, column] of columns) {
    const [medium, at, y, x] = key.split(" ").map(Number);
    if (medium !== m || at !== time) continue;
    const times = line.rows[column],
      right = times !== null && times <= 1;
    pen.globalAlpha = right ? 0.25 : 0.75;
    pen.fillStyle = `rgb(${colourOf(times).join(",")})`;
    pen.fillRect(x * side[0], y * side[1], side[0], side[1]);
    pen.globalAlpha = 0.3;
    pen.lineWidth = side[0] / 28;
    pen.strokeStyle = "#000";
    pen.strokeRect(x * side[0], y * side[1], side[0], side[1]);
    some = true;
  }
  return some;
}

/* The patches of the chosen row, and the patch that the keys stand on. */
function drawChosen(pen, { medium: m, time }, width) {
  const { grid, size } = data.media[m],
    side = [size[1] / grid[2], size[0] / grid[1]];
  const own = state.column !== null && state.drawn === state.line,
    chosen = own ? patchesOf(state.line, state.column) : [],
    all = state.patch ? [...chosen, state.patch] : chosen,
    here = all.filter(p => p[0] === m && p[1] === time);
  pen.globalAlpha = 1;
  for (const [colour, wide] of [
    ["#000", 2 * width],
    ["#fff", width],
  ])
    for (const [, , y, x] of here) {
      pen.lineWidth = wide;
      pen.strokeStyle = colour;
      pen.strokeRect(x * side[0], y * side[1], side[0], side[1]);
    }
}

function patchUnder({ medium, canvas }, event) {
  const box = canvas.getBoundingClientRect(),
    [, rows, columns] = data.media[medium].grid;
  const across = (event.clientX - box.left - AXIS.left) / (box.width - AXIS.left - 2),
    down = (event.clientY - box.top - 1) / (box.height - AXIS.bottom - 2);
  const inside = (share, many) => Math.min(Math.max(Math.floor(share * many), 0), many - 1);
  return [inside(down, rows), inside(across, columns)];
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function walkPatches(view, event) {
  const step = STEPS[event.key],
    [, rows, columns] = data.media[view.medium].grid;
  if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const first = state.column === null ? undefined : patchesOf(state.line, state.column)[0],
    now = state.patch ?? first;
  const here = now && now[0] === view.medium && now[1] === view.time,
    [y, x] = here ? [now[2] + step[0], now[3] + step[1]] : [0, 0];
  if (y >= 0 && x >= 0 && y < rows && x < columns) choosePatch(view, y, x);
}

function choosePatch({ medium, time }, y, x) {
  if (state.drawn !== state.line) choose(state.drawn);
  const column = state.columns.get(patchKey(medium, time, y, x));
  Object.assign(state, { patch: [medium, time, y, x], column: column ?? null });
  show();
}
