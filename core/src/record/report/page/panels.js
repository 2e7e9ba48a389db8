// Panels of a report: the consoles, and all lines.

/** Appends a text, with each place of the searched text marked. */
function appendMarked(parent, text, query) {
  const lower = query ? text.toLowerCase() : '';
  let from = 0;
  // Lower case may have another length; then nothing is marked.
  for (let at = query && lower.length === text.length ? lower.indexOf(query) : -1; at >= 0; at = lower.indexOf(query, from)) {
    parent.append(text.slice(from, at), make('mark', {}, text.slice(at, at + query.length)));
    from = at + query.length;
  }
  parent.append(text.slice(from));
}

/** One console: its lines, and the styled parts of each. */
class Screen {
  constructor(name, pre, parts, styles) {
    Object.assign(this, { name, styles, parts, ...lines(pre) });
    this.first = new Map();
    for (let at = 0; at < parts.length; at += 4) if (!this.first.has(parts[at])) this.first.set(parts[at], at);
  }

  draw(row, index, query) {
    row.append(make('span', { className: 'at' }, clock(this.times[index])));
    const text = this.texts[index];
    let from = 0;
    const put = (to, style) => {
      const end = Math.min(to, LONGEST);
      if (end > from) {
        const span = make('span');
        if (style !== undefined) this.dress(span, this.styles[style]);
        appendMarked(span, text.slice(from, end), query);
        row.append(span);
      }
      from = Math.max(from, end);
    };
    for (let at = this.first.get(index) ?? this.parts.length; this.parts[at] === index; at += 4) {
      put(this.parts[at + 1]);
      put(this.parts[at + 1] + this.parts[at + 2], this.parts[at + 3]);
    }
    put(text.length);
    if (text.length > LONGEST) row.append(make('span', { className: 'more' }, ` … ${text.length - LONGEST} more`));
  }

  dress(span, style) {
    const [letters, ...colours] = style.split(' ');
    span.classList.add('styled', ...letters);
    for (const colour of colours) {
      if (colour[1] !== '#') span.classList.add(colour);
      else span.style.setProperty(colour[0] === 'f' ? '--front' : '--behind', colour.slice(1));
    }
  }
}

/** The panel of the consoles: one at a time, with a search that goes from match to match. */
class Consoles {
  constructor(screens, choose) {
    Object.assign(this, { screens, choose, query: '', matches: [] });
    this.list = new List('Console', (row, index) => this.screen.draw(row, index, this.query), (index) => this.choose(this.screen.times[index], this), 'screen');
    this.list.box.id = `console-${Math.random().toString(36).slice(2)}`;
    this.tabs = screens.map((screen, index) => button(screen.name, () => this.open(index), { role: 'tab' }));
    this.found = make('output', { 'aria-live': 'polite' });
    this.input = make('input', { type: 'search', placeholder: 'Search the console', 'aria-label': 'Search the console',
      oninput: () => this.search(), onkeydown: (event) => { if (event.key === 'Enter') this.step(event.shiftKey ? -1 : 1); } });
    this.element = make('div', { className: 'card panel consoles' },
      make('div', { className: 'bar' }, make('div', { className: 'tabs', role: 'tablist', 'aria-label': 'Consoles' }, ...this.tabs),
        this.input, this.found, make('span', { className: 'steps' },
          button('↑', () => this.step(-1), { 'aria-label': 'Previous match' }), button('↓', () => this.step(1), { 'aria-label': 'Next match' }))),
      this.list.box);
    this.open(0);
  }

  open(index, line) {
    this.screen = this.screens[index];
    this.tabs.forEach((tab, at) => tab.setAttribute('aria-selected', at === index));
    this.list.chosen = -1;
    this.list.show(this.screen.texts.length);
    this.search(false);
    if (line !== undefined) this.list.reveal(line);
  }

  search(moves = true) {
    this.query = this.input.value.toLowerCase();
    this.matches = [];
    if (this.query) this.screen.texts.forEach((text, index) => { if (text.toLowerCase().includes(this.query)) this.matches.push(index); });
    const after = countUpTo(this.matches, this.list.chosen - 1);
    if (moves && this.matches.length) this.list.reveal(this.matches[after % this.matches.length]);
    this.tell();
    this.list.paint();
  }

  step(by) {
    const { length } = this.matches;
    if (!length) return;
    const after = countUpTo(this.matches, this.list.chosen);
    const on = this.matches[after - 1] === this.list.chosen;
    const next = by > 0 ? after : after - 1 - (on ? 1 : 0);
    this.list.pick(this.matches[(next + length) % length]);
    this.tell();
  }

  tell() {
    const at = countUpTo(this.matches, this.list.chosen);
    this.found.textContent = !this.query ? '' : this.matches.length ? `${at} of ${this.matches.length}` : 'none';
  }

  /** Shows what the console displayed at a time. */
  seek(time) {
    this.list.reveal(Math.max(0, countUpTo(this.screen.times, time) - 1));
    this.tell();
  }
}

/** The panel of all lines, filtered by lane and by text. At first without the consoles, which have a panel of their own. */
class Lines {
  constructor({ times, texts }, lanes, rows, choose) {
    Object.assign(this, { times, texts, lanes, rows, choose, off: new Set() });
    lanes.forEach(([, what], lane) => { if (what === 'console') this.off.add(lane); });
    this.list = new List('All lines', (row, index) => this.draw(row, index), (index) => this.pick(index));
    this.list.box.id = `lines-${Math.random().toString(36).slice(2)}`;
    this.found = make('output', { 'aria-live': 'polite' });
    this.input = make('input', { type: 'search', placeholder: 'Filter the lines', 'aria-label': 'Filter the lines', oninput: () => this.filter() });
    const box = (lane, index) => make('label', {}, make('input', { type: 'checkbox', checked: this.off.has(index) ? undefined : '', onchange: (event) => {
      this.off[event.target.checked ? 'delete' : 'add'](index);
      this.filter();
    } }), lane[0]);
    this.detail = make('div', { className: 'detail', hidden: '', tabindex: 0, 'aria-label': 'The chosen line' });
    this.element = make('div', { className: 'card panel lines-panel' },
      make('div', { className: 'bar' }, this.input, this.found, ...lanes.map(box)), this.list.box, this.detail);
    this.filter();
  }

  filter() {
    this.query = this.input.value.toLowerCase();
    const shown = [];
    this.texts.forEach((text, index) => {
      if (!this.off.has(this.rows[index]) && (!this.query || text.toLowerCase().includes(this.query))) shown.push(index);
    });
    this.found.textContent = `${shown.length} of ${this.texts.length}`;
    this.list.show(shown.length, shown.length < this.texts.length ? shown : null);
    if (!shown.length) this.list.show(0);
  }

  draw(row, index) {
    row.append(make('span', { className: 'at' }, clock(this.times[index])), make('span', { className: 'who' }, this.lanes[this.rows[index]][0]));
    const text = this.texts[index];
    appendMarked(row, text.slice(0, LONGEST), this.query);
    if (text.length > LONGEST) row.append(make('span', { className: 'more' }, ` … ${text.length - LONGEST} more`));
  }

  pick(index) {
    this.show(index);
    this.choose(this.times[index], this);
  }

  show(index) {
    this.detail.hidden = false;
    this.detail.textContent = this.texts[index];
    this.detail.scrollTop = 0;
  }

  /** Shows a line, or the last one before it that the filter admits. */
  reveal(index) {
    this.list.reveal(index);
    if (this.list.chosen >= 0) this.show(this.list.chosen);
  }
}
