/* What belongs to what, by provenance: from a place in a picture to the rows of every array, and back.
   Nothing is computed here from sizes: `at` are the tables of provenance.py, segments are the trace's.

   p patches as cut, w patches by window, c cells by window, m visual tokens, s rows of the sequence. */

const LETTERS = ["p", "w", "c", "m", "s"];
const placeKey = (medium, time, row, column) => `${medium} ${time} ${row} ${column}`;

function indexRows(run) {
  ((run.rowAt = {}), (run.places = {}));
  for (const letter of LETTERS) {
    const table = run.at[letter],
      count = table.shape[0],
      each = table.length / Math.max(count, 1) / 4;
    run.rowAt[letter] = new Map();
    run.places[letter] = [];
    for (let row = 0; row < count; row++) {
      const places = [];
      for (let k = 0; k < each; k++) {
        const four = Array.from(table.subarray(4 * (row * each + k), 4 * (row * each + k) + 4));
        if (four[0] < 0) continue; // a token of text
        places.push(four);
        run.rowAt[letter].set(placeKey(...four), row);
      }
      run.places[letter].push(places);
    }
  }
  run.count = run.at.s.shape[0];
  run.segments.forEach(table => {
    table.of = rowsToSegments(table, run.at.w.shape[0]);
  });
  run.windows = findWindows(run);
}

/* The segment that each row lies in. */
function rowsToSegments(table, rows) {
  const of = new Int32Array(rows);
  for (let g = 0; g < table.shape[0]; g++) of.fill(g, table[4 * g], table[4 * g + 1]);
  return of;
}

/* Borders of the windows, from the segments of a block that attends in them; none where all are full. */
function findWindows(run) {
  const block = run.segments.findIndex((_, n) => !run.full.includes(n));
  if (block < 0) return [];
  const table = run.segments[block];
  return Array.from({ length: table.shape[0] }, (_, g) => ({ number: g, ...segmentBox(run, table, g) }));
}

function segmentBox(run, table, g) {
  const q0 = table[4 * g],
    q1 = table[4 * g + 1];
  const places = run.places.w.slice(q0, q1).flat();
  const rows = places.map(p => p[2]),
    columns = places.map(p => p[3]);
  return {
    q0,
    q1,
    medium: places[0][0],
    time: places[0][1],
    top: Math.min(...rows),
    left: Math.min(...columns),
    bottom: Math.max(...rows) + 1,
    right: Math.max(...columns) + 1,
  };
}

const isText = (run, s) => run.places.s[s].length === 0;

/* All rows of a selection, by letter: of one patch, of its token, or of its whole window. Null when the
   run lacks it. A patch has one row in p and w, and shares those in c, m and s with its cell. */
function rowsOf(run, selection, unit) {
  if (selection === null) return null;
  if (selection.kind === "text") return { p: [], w: [], c: [], m: [], s: [selection.s], places: [] };
  const key = placeKey(selection.medium, selection.time, selection.row, selection.column);
  const w = run.rowAt.w.get(key);
  if (w === undefined) return null;
  let places = [run.places.w[w][0]];
  if (unit === "token") places = run.places.c[run.rowAt.c.get(key)];
  if (unit === "window" && run.windows.length) {
    const window = windowOf(run, w);
    places = run.places.w.slice(window.q0, window.q1).flat();
  }
  const rows = { places };
  for (const letter of LETTERS)
    rows[letter] = [...new Set(places.map(place => run.rowAt[letter].get(placeKey(...place))))].sort(
      (a, b) => a - b,
    );
  return rows;
}

const windowOf = (run, w) => run.windows.find(window => window.q0 <= w && w < window.q1);

/* A visual token's place, to be selected: its first patch. */
function cellOfRow(run, s) {
  const [medium, time, row, column] = run.places.s[s][0];
  return { kind: "cell", medium, time, row, column };
}
