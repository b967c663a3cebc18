/* The reader: the JSON part of the page and the arrays packed beside it, as document.py wrote them.
   Read next: rows.js (what a row belongs to), weights.js (attention), main.js (the state). */

const KINDS = { i4: Int32Array, f4: Float32Array, f2: Uint16Array };

/* Every float16 as a number, looked up by its 16 bits: not all browsers have Float16Array. */
const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1,
    exponent = (bits >> 10) & 31,
    fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
});

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(plain).arrayBuffer();
}

/* Wherever the document has an entry {at, kind, shape} put the array itself, with its shape. */
function withArrays(value, buffer) {
  if (Array.isArray(value)) return value.map(one => withArrays(one, buffer));
  if (value === null || typeof value !== "object") return value;
  if ("kind" in value && "at" in value && "shape" in value) return arrayAt(buffer, value);
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withArrays(one, buffer)]));
}

function arrayAt(buffer, { at, kind, shape }) {
  const raw = new KINDS[kind](
    buffer,
    at,
    shape.reduce((a, b) => a * b, 1),
  );
  const values = kind === "f2" ? Float32Array.from(raw, bits => HALF[bits]) : raw;
  values.shape = shape;
  return values;
}

async function readDocument() {
  return withArrays(dataOf("document"), await unpack(dataOf("packed")));
}

/* The frames of every picture and video, in full colour and pale, for maps to lie on. */
async function loadFrames(run) {
  for (const medium of run.media) {
    medium.images = await Promise.all(
      medium.frames.map(async url => {
        const image = new Image();
        image.src = url;
        await image.decode();
        return { image, pale: paled(image) };
      }),
    );
  }
}

function paled(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.drawImage(image, 0, 0);
  const pixels = brush.getImageData(0, 0, image.width, image.height),
    d = pixels.data;
  for (let i = 0; i < d.length; i += 4) {
    const light = 0.3 * d[i] + 0.59 * d[i + 1] + 0.11 * d[i + 2];
    for (let c = i; c < i + 3; c++) d[c] = 118 + 0.25 * light + 0.28 * d[c];
  }
  brush.putImageData(pixels, 0, 0);
  return canvas;
}
