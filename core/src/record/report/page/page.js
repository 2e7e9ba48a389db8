// Sections, tabs and theme of a report.

/** Builds the interactive part of a section from its texts and its data. */
function build(section) {
  const data = JSON.parse(section.querySelector('script').textContent);
  const screens = [...section.querySelectorAll('pre.console')].map((pre, index) =>
    new Screen(data.lanes[index + 2][0], pre, data.parts[index], data.styles));
  const all = lines(section.querySelector('pre.lines'));
  const choose = (time, from, row) => {
    axis.seek(time);
    if (from !== panel) panel.reveal(row ?? Math.max(0, countUpTo(all.times, time) - 1));
    if (consoles && from !== consoles) consoles.seek(time);
  };
  const axis = new Axis(data, all.times, choose);
  const panel = new Lines(all, data.lanes, data.rows, choose);
  const consoles = screens.length ? new Consoles(screens, choose) : null;
  const panels = make('div', { className: `panels ${consoles ? '' : 'single'}` }, consoles?.element, panel.element);
  section.append(axis.element, panels);
  const command = section.querySelector('.command');
  command?.querySelector('h3').append(button('Copy', async (event) => {
    const { target } = event;
    getSelection().selectAllChildren(command.querySelector('pre'));
    target.textContent = await navigator.clipboard?.writeText(command.querySelector('pre').textContent).then(() => 'Copied', () => 'Selected') ?? 'Selected';
  }, { className: 'copy' }));
  const remarks = [...section.querySelectorAll('.remarks li')];
  for (const remark of remarks) {
    const { console: index, line } = remark.dataset;
    const go = () => { consoles.open(Number(index), Number(line)); choose(consoles.screen.times[line], consoles); };
    remark.querySelector('.where').replaceWith(button(remark.querySelector('.where').textContent, go, { className: 'where' }));
  }
  // At first the panels are where a kernel crashed, or at the end.
  if (remarks.length) remarks[0].querySelector('button').click();
  else consoles?.list.reveal(consoles.screen.texts.length - 1);
}

const sections = [...document.querySelectorAll('section.record')];
const tabs = document.querySelector('.runs');

/** Shows one section, which is built when it is first shown. */
function open(index) {
  sections.forEach((section, at) => { section.hidden = at !== index; });
  [...tabs.children].forEach((tab, at) => tab.setAttribute('aria-selected', at === index));
  const section = sections[index];
  if (section && !section.querySelector('.axis')) build(section);
}

sections.forEach((section, index) => tabs.append(button(section.dataset.title, () => open(index), { role: 'tab' })));
tabs.hidden = sections.length < 2;
const theme = document.querySelector('.theme');
const isDark = () => root.classList.contains('dark') || (!root.classList.contains('light') && matchMedia('(prefers-color-scheme: dark)').matches);
const nameTheme = () => { theme.textContent = isDark() ? 'Light' : 'Dark'; };
theme.addEventListener('click', () => {
  const dark = isDark();
  root.classList.toggle('light', dark);
  root.classList.toggle('dark', !dark);
  nameTheme();
});
theme.hidden = false;
nameTheme();
open(0);
