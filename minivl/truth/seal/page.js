/* The parity page: a verdict for each run, and the stages of the chosen one. Data: the report itself. */

const data = dataOf("data");
const WORDS = ["exact", "rounding", "suspicious", "wrong"];
const body = id => document.querySelector(`#${id} tbody`);

function number(x) {
  if (x === null) return "not finite";
  return x !== 0 && Math.abs(x) < 0.01 ? x.toExponential(2) : String(Number(x.toPrecision(3)));
}

/* A table of names and values. */
function showPairs(id, pairs) {
  const rows = Object.entries(pairs).map(([name, value]) =>
    make("tr", {}, make("td", {}, name), make("td", {}, make("code", {}, value))),
  );
  body(id).replaceChildren(...rows);
}

const wayOf = run => `${run.precision} ${run.attention}`;

/* Prompts down, ways to run across, a button for each run. */
function showRuns() {
  const ways = [...new Set(data.runs.map(wayOf))];
  const head = ["prompt", ...ways].map(way => make("th", {}, way));
  document.querySelector("#runs thead").append(make("tr", {}, head));
  for (const prompt of new Set(data.runs.map(run => run.prompt))) {
    const cells = ways.map(way => {
      const run = data.runs.find(one => one.prompt === prompt && wayOf(one) === way);
      if (!run) return make("td");
      run.button = make("button", { class: run.verdict, onclick: () => choose(run) }, run.verdict);
      return make("td", {}, run.button);
    });
    body("runs").append(make("tr", {}, make("td", {}, prompt), cells));
  }
}

function choose(run) {
  data.runs.forEach(one => one.button.setAttribute("aria-pressed", one === run));
  $("which").textContent = `${run.prompt}, ${wayOf(run)}: ${run.verdict}`;
  $("words").textContent = inWords(run);
  body("stages").replaceChildren(...run.stages.map(rowOf));
  showCurves(run.stages.filter(stage => stage.rounding > 0));
  showPairs("inputs", run.inputs);
  showPairs("outputs", run.outputs);
}

function rowOf({ name, verdict, error, rounding, ratio }) {
  const figures = [error, rounding, ratio].map(value => make("td", { class: "number" }, number(value)));
  return make("tr", {}, make("td", {}, name), make("td", { class: verdict }, verdict), figures);
}

function inWords({ producer, first_bad: bad, logits }) {
  const said = [producer];
  if (bad) said.push(`first bad stage: ${bad}`);
  if ("kl_worst" in logits) {
    const rows = `another best word in ${logits.differing_rows} rows`;
    said.push(`logits: KL ${number(logits.kl_worst)} nats at most, ${rows}`);
  }
  return said.join("; ");
}

function showCurves(stages) {
  const [errors, rounding] = ["error", "rounding"].map(word => stages.map(stage => stage[word]));
  const all = [...errors, ...rounding].filter(v => v > 0);
  const low = Math.log10(Math.min(...all));
  const high = Math.log10(Math.max(...all)) + 1e-9;            // never the same, even of one number
  const curves = [curve(errors, low, high, "none"), curve(rounding, low, high, "4 4")];
  document.querySelector("svg").replaceChildren(...(all.length ? curves : []));
}

/* A line over the whole width; what is 0 or not finite lies at the foot. */
function curve(values, low, high, dashes) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const y = v => (v > 0 ? 190 - (180 * (Math.log10(v) - low)) / (high - low) : 195);
  const points = values.map((v, n) => `${(1000 * (n + 0.5)) / values.length},${y(v)}`).join(" ");
  const facts = { points, fill: "none", stroke: "currentColor", "stroke-width": "1.5" };
  const more = { "stroke-dasharray": dashes, "vector-effect": "non-scaling-stroke" };
  for (const [name, value] of Object.entries({ ...facts, ...more })) path.setAttribute(name, value);
  return path;
}

const worst = Math.max(...data.runs.map(run => WORDS.indexOf(run.verdict)));
document.querySelector("h1").textContent =
  worst < 2 ? "minivl and transformers: the same within rounding" : "minivl and transformers differ";
showRuns();
for (const id of ["versions", "checkpoint", "package", "seals"]) showPairs(id, data[id]);
choose(data.runs.find(run => run.verdict === WORDS[worst]));
document.body.dataset.ready = "";
