// Script of a report: time axis, consoles with their colours, and all lines, each drawn only where it is visible.
// Text becomes part of the page by `textContent` alone.
'use strict';

const ROW = 18; // The height of a row, as in the style.
const TALLEST = 8e6; // Browsers place no boxes far beyond this many pixels.
const LONGEST = 2000; // The most characters of a row that are drawn.
const BUCKETS = 240; // The most marks of a kind that a lane draws.

const root = document.documentElement;
root.classList.add('js');

/** Makes an element. */
function make(name, options = {}, ...children) {
  const { className, ...attributes } = options;
  const element = document.createElement(name);
  if (className) element.className = className;
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

function button(text, action, options = {}) {
  return make('button', { type: 'button', onclick: action, ...options }, text);
}

/** Splits a text of lines that begin with their times. Returns the times in microseconds, and the rest of each line. */
function lines(pre) {
  const all = pre.textContent.split('\n');
  all.pop();
  const times = new Float64Array(all.length);
  const texts = all.map((line, index) => {
    const end = line.search(/\d /) + 1;
    times[index] = Math.round(Number(line.slice(0, end)) * 1e6);
    return line.slice(end + 1);
  });
  return { times, texts };
}

/** Returns how many of the sorted times are at most this one. */
function countUpTo(times, time) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function brief(micros) {
  const [value, unit] = micros < 1e3 ? [micros, 'µs'] : micros < 1e6 ? [micros / 1e3, 'ms'] : [micros / 1e6, 's'];
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

const clock = (micros) => (micros / 1e6).toFixed(6).padStart(11);

/** A list that draws only the rows in view. `draw(row, index)` fills a row, `choose(index)` reacts to a choice. */
class List {
  constructor(label, draw, choose, className = '') {
    Object.assign(this, { draw, choose, shown: null, count: 0, chosen: -1 });
    this.pad = make('div', { className: 'pad' });
    this.box = make('div', { className: `rows ${className}`, tabindex: 0, role: 'listbox', 'aria-label': label }, this.pad);
    this.box.addEventListener('scroll', () => this.paint());
    this.box.addEventListener('keydown', (event) => this.key(event));
    this.pad.addEventListener('click', (event) => {
      const row = event.target.closest('.row');
      if (row && String(getSelection()) === '') this.pick(Number(row.dataset.index));
    });
    new ResizeObserver(() => this.paint()).observe(this.box);
  }

  /** Displays rows: all `count`, or those in `shown`, an array of their indices. */
  show(count, shown = null) {
    Object.assign(this, { count: shown ? shown.length : count, shown });
    this.height = Math.min(this.count * ROW, TALLEST);
    this.pad.style.height = `${this.height}px`;
    this.paint();
  }

  index(position) {
    return this.shown ? this.shown[position] : position;
  }

  position(index) {
    return this.shown ? Math.max(0, countUpTo(this.shown, index) - 1) : index;
  }

  paint() {
    const { scrollTop, clientHeight } = this.box;
    const room = Math.ceil(clientHeight / ROW) + 1;
    const reach = this.height - clientHeight;
    // Beyond the tallest box, the scroll bar is a proportion.
    const exact = this.count * ROW <= TALLEST || reach <= 0;
    const first = Math.max(0, Math.min(Math.floor(exact ? scrollTop / ROW : (scrollTop / reach) * (this.count - room + 1)), this.count - 1));
    const rows = [];
    for (let at = first; at < Math.min(first + room, this.count); at += 1) {
      const index = this.index(at);
      const row = make('div', { className: 'row', role: 'option', id: `${this.box.id}-${index}`, 'data-index': index,
        'aria-selected': index === this.chosen, 'aria-posinset': at + 1, 'aria-setsize': this.count });
      row.style.top = `${exact ? at * ROW : scrollTop + (at - first) * ROW}px`;
      this.draw(row, index);
      rows.push(row);
    }
    this.pad.replaceChildren(...rows);
  }

  /** Scrolls to a row and marks it. */
  reveal(index) {
    if (!this.count || index < 0) return;
    const at = this.position(index);
    this.chosen = this.index(at);
    const { clientHeight } = this.box;
    if (this.count * ROW <= TALLEST) {
      const top = at * ROW;
      const inView = top >= this.box.scrollTop && top + ROW <= this.box.scrollTop + clientHeight;
      if (!inView) this.box.scrollTop = top - clientHeight / 2;
    } else this.box.scrollTop = (at / this.count) * (this.height - clientHeight);
    this.box.setAttribute('aria-activedescendant', `${this.box.id}-${this.chosen}`);
    this.paint();
  }

  pick(index) {
    this.reveal(index);
    this.choose(this.chosen);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this.count) return;
    event.preventDefault();
    const from = this.chosen < 0 ? -1 : this.position(this.chosen);
    this.pick(this.index(Math.max(0, Math.min(from + step, this.count - 1))));
  }
}
