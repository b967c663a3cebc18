/* What lies on the picture: a number for each row of some array, and where these rows are. */

/* The map that the state asks for: {letter, values, least, most, title, note}, or null. Where no row of
   it lies on a picture with a number, least and most are NaN and the note says why. */
function mapOf(run, runNumber) {
  const rows = rowsOf(run, selectionFor(runNumber), state.unit);
  if (state.map === "stage") return stageMap(run);
  if (state.map === "apart") return apartMap(run, runNumber);
  if (state.map === "off" || rows === null) return null;
  const attention = attentionNow(run),
    toward = state.map === "to";
  if (!rows[attention.unit].length) return null;
  const values = weightsOf(run, attention, rows, state.head, toward);
  return ranged(run, {
    letter: attention.unit,
    values,
    attention,
    share: true,
    floor: 0,
    title:
      `${placeName(run, attention)}: ${toward ? "who looks at" : "where"} ` +
      `${nameOf(run, runNumber)}${toward ? "" : " looks"}`,
    note: weightNote(attention, rows, toward),
    blind: toward ? lookedAtByNone : seesNone,
  });
}

function attentionNow(run) {
  const { room, number } = place();
  return run.attention.find(attention => attention.room === room && attention.number === number);
}

function stageMap(run) {
  const stage = run.stages.find(one => one.label === state.stage),
    array = stage?.arrays[state.array] ?? null;
  if (!array?.rows) return null;
  const single = array.name.split(" ").length === 1;
  return ranged(run, {
    letter: array.letter,
    values: array.rows,
    share: false,
    floor: single ? Infinity : 0,
    title: `${stage.label}: ${single ? "value" : "root mean square"} of each row (${array.letter})`,
    note: array.name ? `[${array.name}] ${array.shape.join(" x ")}` : "",
    blind: what => `no row of it in ${what} is a finite number`,
  });
}

/* How far the two runs are apart, drawn on the first. */
function apartMap(run, runNumber) {
  const { room, number } = place(),
    table = page.pair?.[room];
  if (!table || runNumber > 0) return null;
  const width = table.shape[1],
    values = table.subarray(number * width, (number + 1) * width);
  const [letter, where] = room === "vision" ? ["w", "tower block"] : ["s", "decoder layer"];
  return ranged(run, {
    letter,
    values,
    share: false,
    floor: 0,
    title: `after ${where} ${number}: how far the runs are apart`,
    note: "||a - b|| / ||a|| of each row; hatched: no counterpart",
    blind: what => `no row of it in ${what} has a counterpart in the other run`,
  });
}

/* Text sees only what stands before it, and is seen only by what stands after it. */
const seesNone = what =>
  `it cannot see ${what}: it stands before it, and a token sees only what comes before itself`;
const lookedAtByNone = what =>
  `nothing in ${what} can look at it: a token sees only what comes before itself, and this comes after`;

/* Range of the values that lie on pictures: a row of text does not darken the rest. */
function ranged(run, map) {
  const numbers = where =>
    [...map.values].filter((value, i) => Number.isFinite(value) && where(run.places[map.letter][i]));
  const every = numbers(places => places.length);
  const [least, most] = every.length
    ? [Math.min(map.floor, ...every), Math.max(...every)]
    : [NaN, NaN];
  const seen = numbers(places => places.some(here)).length;
  const what = !every.length && run.media.length === 1 ? `the ${kindOf(run)}` : `this ${kindOf(run)}`;
  const note = seen ? map.note : `${map.blind(what)} (all is hatched)`;
  return { ...map, least, most, note, how: map.note };
}

/* What is drawn: a picture, or a pair of frames of a video. */
const kindOf = run => (run.media[state.medium].kind === "video" ? "video" : "picture");

function weightNote(attention, rows, toward) {
  const several = rows[attention.unit].length,
    notes = [];
  if (several > 1)
    notes.push(`${toward ? "sum over its" : "mean of its"} ${several} ${toward ? "keys" : "queries"}`);
  if (attention.pooled)
    notes.push("pooled to cells to keep the file small: mean of 4 queries, sum of 4 keys");
  if (attention.heads === 1) notes.push("heads averaged to keep the file small");
  else
    notes.push(
      state.head < 0 ? `mean of ${attention.heads} heads` : `head ${state.head} of ${attention.heads}`,
    );
  return notes.join("; ");
}

/* Pale yellow to dark violet, darker all the way: it stays in order for every kind of colour vision.
   Small values are let through, so that the picture shows where little happens. */
const STOPS = [
  [255, 241, 150],
  [249, 190, 82],
  [227, 110, 92],
  [158, 45, 125],
  [50, 8, 92],
];
const opacityOf = share => 0.12 + 0.8 * Math.min(4 * share, 1);

function colourOf(share) {
  const x = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1),
    i = Math.min(Math.floor(x), STOPS.length - 2);
  return STOPS[i].map((low, n) => Math.round(low + (STOPS[i + 1][n] - low) * (x - i)));
}

const shareOf = (map, value) =>
  map.most > map.least ? (value - map.least) / (map.most - map.least) : 0;
