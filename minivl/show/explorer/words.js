/* Numbers and names as people read them. */

/* Four figures, as the weights have three and the rest more. Very small ones keep their power of ten. */
function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (!Number.isFinite(value)) return "not finite";
  if (value === 0 || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size < 1e-4 || size >= 1e6 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/* A weight in a cell of the map: `.083`, as short as can be. */
function brief(value, share) {
  if (!share) return Number(value.toPrecision(2)).toString();
  if (value >= 0.0995) return value.toFixed(2).replace(/^0/, "");
  if (value >= 0.0005) return value.toFixed(3).replace(/^0/, "");
  return value === 0 ? "0" : "~0";
}

const percent = value =>
  value >= 0.9995 && value < 1
    ? ">99.9 %"
    : value < 5e-5
      ? "<0.01 %"
      : `${Number((100 * value).toPrecision(3))} %`;

/* `0..3, 7`: runs of numbers that follow each other. */
function spans(numbers) {
  const runs = [];
  for (const n of numbers) {
    if (runs.length && runs.at(-1)[1] === n - 1) runs.at(-1)[1] = n;
    else runs.push([n, n]);
  }
  const shown = runs
    .slice(0, 8)
    .map(([a, b]) => (a === b ? `${a}` : `${a}..${b}`))
    .join(", ");
  return shown + (runs.length > 8 ? ", ..." : "");
}

const several = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function placeName(run, { room, number }) {
  if (room === "decoder") return `decoder layer ${number}`;
  return `tower block ${number} (${run.full.includes(number) ? "whole frame" : "windows"})`;
}

/* What is selected, in a few words. */
function nameOf(run, runNumber) {
  const selection = selectionFor(runNumber),
    rows = rowsOf(run, selection, state.unit);
  if (rows === null) return "nothing";
  if (selection.kind === "text") return `"${run.tokens[selection.s]}" (row ${selection.s})`;
  if (state.unit === "patch") return `patch ${rows.p[0]}`;
  if (state.unit === "window" && run.windows.length) return `window ${windowOf(run, rows.w[0]).number}`;
  return `visual token ${rows.m[0]}`;
}

/* A row of a map, in a few words: its kind, its row and column in the picture, its row in the array. */
function rowName(run, letter, row) {
  const places = run.places[letter][row];
  if (!places.length) return `"${run.tokens[row]}", row ${row}`;
  const [medium, time, y, x] = places[0],
    kind = letter === "p" || letter === "w" ? "patch" : "cell";
  const scale = kind === "patch" ? 1 : run.merge;
  const when = run.media[medium].grid[0] > 1 ? `, pair ${time}` : "";
  const which = run.media.length > 1 ? `picture ${medium + 1}, ` : "";
  return `${which}${kind} ${y / scale}, ${x / scale}${when} (${letter} ${row})`;
}
