// Makes and changes elements. Data becomes text, never markup: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** A new element. Properties that are functions become listeners (onclick), others attributes; `class` too. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** A new SVG element. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else setAttribute(element, name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Change an element's text where it differs: an untouched node costs nothing and keeps a selection. */
export function setText(element, text) {
  const value = String(text);
  if (element.textContent !== value) element.textContent = value;
}

/** Change an attribute where it differs; false and null remove it, true sets it empty. */
export function setAttribute(element, name, value) {
  if (value === false || value === null || value === undefined) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/**
 * Keeps the children of an element in step with a list. `create(item)` gives `{element, update(item)}`,
 * made once a key; what is gone is removed, what moved is moved, the rest stays in place. The first `fixed`
 * children are left alone.
 */
export function keyedList(parent, keyOf, create, fixed = 0) {
  const known = new Map();
  return (items) => {
    const wanted = new Set();
    let place = parent.children[fixed] ?? null;
    for (const item of items) {
      const key = keyOf(item);
      wanted.add(key);
      let part = known.get(key);
      if (!part) {
        part = create(item);
        known.set(key, part);
      }
      part.update(item);
      if (part.element === place) place = place.nextElementSibling;
      else parent.insertBefore(part.element, place);
    }
    for (const [key, part] of known) {
      if (wanted.has(key)) continue;
      part.element.remove();
      known.delete(key);
    }
  };
}
