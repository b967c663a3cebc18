/* Attention weights of a selection. `from`: the mean over the selected queries, over all keys they see.
   `to`: for every query that sees the selection, the sum of its weights on it. Rows that are not seen
   are NaN: outside of the window, or later than the token. Weights are float16, see attention.py. */

function indexWeights(run) {
  for (const attention of run.attention) {
    attention.unit = attention.room === "decoder" ? "s" : attention.pooled ? "c" : "w";
    if (attention.room === "decoder") continue;
    const table = run.segments[attention.number],
      size = attention.pooled ? run.merge ** 2 : 1;
    attention.size = size;
    attention.starts = [];
    for (let g = 0, start = 0; g < table.shape[0]; g++) {
      attention.starts.push(start);
      start +=
        (((attention.heads * (table[4 * g + 1] - table[4 * g])) / size) *
          (table[4 * g + 3] - table[4 * g + 2])) /
        size;
    }
  }
}

/* Heads to average: one, or all. A page that holds the mean of heads has a single one. */
const headsOf = (attention, head) =>
  head >= 0 && head < attention.heads ? [head] : [...Array(attention.heads).keys()];

function weightsOf(run, attention, rows, head, toward) {
  const chosen = rows[attention.unit];
  const out = new Float32Array(
    attention.unit === "s" ? run.count : run.at.w.shape[0] / attention.size,
  ).fill(NaN);
  const read = attention.room === "decoder" ? readDecoder : readTower;
  for (const row of chosen) read(run, attention, row, headsOf(attention, head), toward, out);
  if (!toward) for (let i = 0; i < out.length; i++) out[i] /= chosen.length;
  return out;
}

const addTo = (out, i, value) => {
  out[i] = (Number.isNaN(out[i]) ? 0 : out[i]) + value;
};

function readTower(run, attention, row, heads, toward, out) {
  const table = run.segments[attention.number],
    g = table.of[row * attention.size];
  const [q0, q1, k0, k1] = Array.from(table.subarray(4 * g, 4 * g + 4), n => n / attention.size);
  const queries = q1 - q0,
    keys = k1 - k0;
  for (let i = 0; i < (toward ? queries : keys); i++) {
    const [q, k] = toward ? [i, row - k0] : [row - q0, i];
    let sum = 0;
    for (const head of heads)
      sum += attention.weights[attention.starts[g] + (head * queries + q) * keys + k];
    addTo(out, toward ? q0 + i : k0 + i, sum / heads.length);
  }
}

function readDecoder(run, attention, row, heads, toward, out) {
  const size = (run.count * (run.count + 1)) / 2;
  for (let i = toward ? row : 0; i < (toward ? run.count : row + 1); i++) {
    const [q, k] = toward ? [i, row] : [row, i];
    let sum = 0;
    for (const head of heads) sum += attention.weights[head * size + (q * (q + 1)) / 2 + k];
    addTo(out, i, sum / heads.length);
  }
}

/* The decoder layer in which a row gives most of its attention to pictures: where the page opens. */
function mostLooking(run, s) {
  const layers = run.attention.filter(attention => attention.room === "decoder");
  const shares = layers.map(attention =>
    visualShare(run, weightsOf(run, attention, { s: [s] }, -1, false)),
  );
  return shares.indexOf(Math.max(...shares));
}

const visualShare = (run, values) =>
  values.reduce((sum, v, s) => (Number.isNaN(v) || isText(run, s) ? sum : sum + v), 0);
