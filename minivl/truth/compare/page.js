/* The diff page: the report, a map of stages by rows, the same on the picture. Data: compare/page.py. */

const data = dataOf("data");

/* How many times rounding, as red: white up to 1, deep red from 1000 on and for what is not finite. */
function colour(times) {
  const t = times === null ? 1 : Math.max(0, Math.min(1, Math.log10(Math.max(times, 1)) / 3));
  return t ? [255 - 60 * t, 235 * (1 - t), 215 * (1 - t)] : [255, 255, 255];
}

/* One pixel for each number; at(x, y) is undefined where there is none, and the pixel stays clear. */
function paint(canvas, width, height, at) {
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const times = at(x, y);
      if (times !== undefined) image.data.set([...colour(times), 255], 4 * (y * width + x));
    }
  }
  pen.putImageData(image, 0, 0);
}

function showMap({ title, names, width }) {
  const canvas = make("canvas");
  paint(canvas, width, names.length, (x, y) => data.rows[names[y]][x]);
  canvas.style.width = `${Math.min(1100, width * 6)}px`;
  canvas.style.height = `${names.length * 7}px`;
  const under = event => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [names[Math.floor(y * names.length)], Math.floor(x * width)];
  };
  canvas.onclick = event => choose(...under(event));
  canvas.onmousemove = event => (canvas.title = under(event)[0]);
  $("maps").append(make("p", {}, title), canvas);
}

function showTable() {
  const side = n => (n > 0 ? "number" : "");
  const head = data.columns.map((name, n) => make("th", { class: side(n) }, name));
  document.querySelector("#stages thead").append(make("tr", {}, head));
  for (const row of data.table) {
    const cells = row.map((cell, n) => make("td", { class: side(n) }, cell));
    cells[1].classList.add(row[1]);                               // the verdict, in its colour
    const facts = { id: `row:${row[0]}`, class: "choice", onclick: () => choose(row[0]) };
    document.querySelector("#stages tbody").append(make("tr", facts, cells));
  }
}

/* The stage on the picture, and, where a row of it is pointed at, that row in numbers. */
function choose(name, number) {
  document.querySelectorAll(".chosen").forEach(row => row.classList.remove("chosen"));
  $(`row:${name}`)?.classList.add("chosen");
  const rows = data.rows[name];
  const places = data.at[data.letters[name]];
  const said = rows && number < rows.length ? `, ${rowInWords(rows, places, number)}` : "";
  $("cell").textContent = name + said;
  $("pictures").replaceChildren();
  if (rows && places) data.media.forEach((medium, m) => showPicture(name, rows, places, medium, m));
}

function rowInWords(rows, places, number) {
  const size = rows[number] === null ? "not finite" : rows[number].toPrecision(3);
  const said = `row ${number}: ${size} times rounding`;
  if (!places?.[number]) return said;
  const [medium, , y, x] = places[number][0];
  return medium < 0 ? `${said}, text` : `${said}, picture ${medium}, patch row ${y}, column ${x}`;
}

function showPicture(name, rows, places, { grid: [t, h, w] }, m) {
  const values = {};                    // patch -> number; a row of a cell stands for four patches
  rows.forEach((value, row) => {
    for (const [medium, time, y, x] of places[row] ?? []) {
      if (medium === m) values[(time * h + y) * w + x] = value;
    }
  });
  const canvas = make("canvas");
  paint(canvas, w, t * h, (x, y) => values[y * w + x]);
  canvas.style.width = `${w * 14}px`;
  canvas.style.height = `${t * h * 14}px`;
  $("pictures").append(make("p", {}, `${name}, picture ${m}`), canvas);
}

document.querySelector("h1").textContent = data.title;
$("said").textContent = data.lines.join("\n");
$("notice").textContent = data.notice;
data.maps.forEach(showMap);
showTable();
if (data.first) choose(data.first);
document.body.dataset.ready = "";
