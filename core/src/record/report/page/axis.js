// Time axis of a report.

/** The time axis: a track for each lane. A drag zooms. */
class Axis {
  constructor(data, times, choose) {
    Object.assign(this, { ...data, times, choose });
    this.whole = [data.span[0], Math.max(data.span[1], data.span[0] + 1)];
    this.view = this.whole;
    this.scale = make('div', { className: 'track scale' });
    this.tracks = data.lanes.map(() => make('div', { className: 'track' }));
    const names = data.lanes.map(([name, what]) => make('div', { className: `lane-name ${what}`, title: name }, name));
    this.cursor = make('div', { className: 'cursor', hidden: '' });
    this.zone = make('div', { className: 'zone', hidden: '' });
    this.hint = make('div', { className: 'hint', 'aria-live': 'polite' });
    this.rest = 'Drag to zoom. Choose a mark to see its line and the console at its time.';
    this.field = make('div', { className: 'lanes' }, make('div'), this.scale, ...names.flatMap((name, at) => [name, this.tracks[at]]), this.cursor, this.zone);
    this.element = make('div', { className: 'card axis' }, make('div', { className: 'bar' }, make('h3', {}, 'Time in seconds'),
      button('−', () => this.zoom(2), { 'aria-label': 'Zoom out' }), button('+', () => this.zoom(0.5), { 'aria-label': 'Zoom in' }),
      button('All', () => this.look(this.whole))), this.field, this.hint);
    this.field.addEventListener('pointerdown', (event) => this.drag(event));
    this.field.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => this.place()).observe(this.field);
    this.look(this.whole);
  }

  share(time) {
    return (time - this.view[0]) / (this.view[1] - this.view[0]);
  }

  look([from, to]) {
    const length = Math.min(Math.max(to - from, 10), this.whole[1] - this.whole[0]);
    const begin = Math.min(Math.max(from, this.whole[0]), this.whole[1] - length);
    this.view = [begin, begin + length];
    const digits = Math.max(0, Math.min(6, 9 - Math.ceil(Math.log10(length))));
    this.scale.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((part) => {
      const label = make('span', {}, ((begin + part * length) / 1e6).toFixed(digits));
      label.style.left = `${part * 100}%`;
      return label;
    }));
    this.tracks.forEach((track, lane) => track.replaceChildren(...this.ticks(lane), ...this.marksOf(lane)));
    // The Tab key goes from lane to lane, and the arrow keys from mark to mark.
    this.tracks.forEach((track) => { for (const mark of [...track.querySelectorAll('button')].slice(1)) mark.tabIndex = -1; });
    this.hint.textContent = this.rest;
    this.place();
  }

  zoom(factor) {
    const middle = this.at !== undefined && this.share(this.at) >= 0 && this.share(this.at) <= 1 ? this.at : (this.view[0] + this.view[1]) / 2;
    const half = ((this.view[1] - this.view[0]) * factor) / 2;
    this.look([middle - half, middle + half]);
  }

  bucket(time) {
    return Math.floor(Math.min(1, Math.max(0, this.share(time))) * (BUCKETS - 1));
  }

  /** Where a lane has lines, as bars of at least a bucket. */
  ticks(lane) {
    const filled = new Uint8Array(BUCKETS);
    const end = countUpTo(this.times, this.view[1]);
    for (let at = countUpTo(this.times, this.view[0] - 1); at < end; at += 1) if (this.rows[at] === lane) filled[this.bucket(this.times[at])] = 1;
    const bars = [];
    for (let at = 0; at < BUCKETS; at += 1) {
      const from = at;
      while (filled[at]) at += 1;
      if (at > from) bars.push(this.put(make('i'), from / (BUCKETS - 1), (at - from) / BUCKETS));
    }
    return bars;
  }

  put(element, from, width) {
    element.style.left = `min(${from * 100}%, 100% - 4px)`;
    if (width !== undefined) element.style.width = `${width * 100}%`;
    return element;
  }

  /** The marks of a lane. Those of a kind that begin in one bucket are drawn as one, named after the worst. */
  marksOf(lane) {
    const groups = new Map();
    this.marks.forEach(([what, end, of, row, at, until, label]) => {
      const to = until >= 0 ? until : end ? this.whole[1] : at;
      if (of !== lane || to < this.view[0] || at > this.view[1]) return;
      const key = `${what} ${this.bucket(at)}`;
      const group = groups.get(key);
      const mark = { what, end, row, at, to, until, label, count: (group?.count ?? 0) + 1, last: Math.max(to, group?.last ?? to) };
      if (!group || (end && !group.end)) groups.set(key, mark);
      else Object.assign(group, { count: mark.count, last: mark.last });
    });
    return [...groups.values()].sort((a, b) => a.at - b.at).map((mark) => this.drawMark(mark));
  }

  drawMark(mark) {
    const { what, end, row, at, until, label, count, last } = mark;
    const name = `${(at / 1e6).toFixed(6)} s: ${label}${until > at ? `, ${brief(until - at)}` : ''}${end ? `, ${end}` : ''}${count > 1 ? ` (and ${count - 1} more)` : ''}`;
    const open = end && until < 0;
    const element = button('', () => this.choose(at, this, row), { className: `${what} ${open ? 'open' : end && end !== 'disowned' ? 'bad' : ''}`, 'aria-label': name, title: name });
    for (const event of ['pointerenter', 'focus']) element.addEventListener(event, () => { this.hint.textContent = name; });
    const from = Math.max(0, this.share(at));
    const isLong = ['command', 'exchange', 'wait', 'gap'].includes(what);
    return this.put(element, from, isLong ? Math.min(1, this.share(last)) - from : undefined);
  }

  key({ key, target }) {
    const next = { ArrowRight: 'nextElementSibling', ArrowLeft: 'previousElementSibling' }[key];
    if (next && target[next]?.matches('button')) target[next].focus();
  }

  /** Moves the cursor to a time. */
  seek(time) {
    this.at = time;
    this.place();
  }

  place() {
    const share = this.at === undefined ? -1 : this.share(this.at);
    this.cursor.hidden = share < 0 || share > 1;
    this.cursor.style.left = `${this.scale.offsetLeft + share * this.scale.offsetWidth}px`;
  }

  drag(event) {
    const { left, width } = this.scale.getBoundingClientRect();
    const of = ({ clientX }) => Math.min(1, Math.max(0, (clientX - left) / width));
    const from = of(event);
    if (event.button !== 0 || event.pointerType === 'touch' || event.clientX < left) return;
    const move = (to) => {
      const [low, high] = [Math.min(from, of(to)), Math.max(from, of(to))];
      this.zone.hidden = (high - low) * width < 4;
      this.zone.style.left = `${this.scale.offsetLeft + low * width}px`;
      this.zone.style.width = `${(high - low) * width}px`;
    };
    const end = (to) => {
      removeEventListener('pointermove', move);
      const length = this.view[1] - this.view[0];
      if (!this.zone.hidden) this.look([from, of(to)].sort((a, b) => a - b).map((part) => this.view[0] + part * length));
      else if (!to.target.closest?.('button')) this.choose(this.view[0] + from * length, this);
      this.zone.hidden = true;
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', end, { once: true });
  }
}
