"use strict";
/* What the scripts of every page begin with. Texts are only ever set as text, never as markup. */

const $ = id => document.getElementById(id);

/* A part of the page's data: Python put it there as JSON under this id. */
const dataOf = id => JSON.parse($(id).textContent);

/* The one function that makes elements. facts: attributes, `class`, `data` (a dataset), `on...`. */
function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined));
  return element;
}
