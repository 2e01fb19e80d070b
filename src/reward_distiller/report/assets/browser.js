// The list of pairs, its filters, and the pair that is chosen. The data stands in the page, deflated.
const ROWS = 10; // pairs on a page of the list
const KEPT = 12; // blocks of texts that are kept inflated
const SPLITS = { training: "training", validation: "choosing the weights", held_out: "held out" };

const root = document.getElementById("pair-browser");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const inputs = Object.fromEntries([...root.querySelectorAll("[data-filter]")].map((e) => [e.dataset.filter, e]));
const packed = [...document.querySelectorAll('script[data-pairs="block"]')];
const blocks = new Map();
const state = { order: [], at: 0, hits: null, query: "", view: "edits", shown: 0 };
let index, columns, starts;

async function inflated(script) {
  const text = atob(script.textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
}

async function block(at, keep = true) {
  if (blocks.has(at)) return blocks.get(at);
  const found = await inflated(packed[at]);
  if (keep) {
    blocks.set(at, found);
    if (blocks.size > KEPT) blocks.delete(blocks.keys().next().value);
  }
  return found;
}

function blockOf(pair) {
  let low = 0, high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= pair) low = middle;
    else high = middle - 1;
  }
  return low;
}

// -- which pairs, in which order --------------------------------------------------------------------

function ranges() {
  const found = [];
  for (const [sign, name] of [[1, "low"], [-1, "high"]]) {
    for (const input of root.querySelectorAll(`[data-${name}]`)) {
      const value = input.valueAsNumber;
      if (!Number.isNaN(value)) found.push([columns[input.dataset[name]], sign, value]);
    }
  }
  return found;
}

function accepts() {
  const { source, split, side } = Object.fromEntries(Object.entries(inputs).map(([k, e]) => [k, e.value]));
  const tokens = inputs.tokens.checked, limits = ranges();
  return (i) => {
    if (source !== "" && columns.source[i] !== Number(source)) return false;
    if (split !== "" && columns.split[i] !== Number(split)) return false;
    if (tokens && !columns.tokens[i]) return false;
    const margin = columns.model[i];
    if (side === "none" ? margin !== null : side !== "" && margin === null) return false;
    if (side === "chosen" && !(margin > 0)) return false;
    if (side === "rejected" && margin > 0) return false;
    for (const [column, sign, value] of limits) {
      if (column[i] === null || sign * column[i] < sign * value) return false;
    }
    return state.hits === null || state.hits[i] === 1;
  };
}

// Applies filters and sorting. The chosen pair stays chosen where it is still there.
function apply({ searching = false } = {}) {
  const accept = accepts(), before = state.order[state.at];
  const order = [];
  for (let i = 0; i < columns.source.length; i++) if (accept(i)) order.push(i);
  const [name, direction] = inputs.sort.value.split(":");
  if (name) {
    const column = columns[name], sign = Number(direction);
    const rank = (i) => (column[i] === null ? Infinity : sign * column[i]);
    order.sort((a, b) => rank(a) - rank(b) || a - b);
  }
  state.order = order;
  state.at = searching ? Math.max(0, order.indexOf(before)) : 0;
  draw();
}

let searches = 0;
async function search() {
  const query = inputs.text.value.trim().toLowerCase();
  const mine = ++searches;
  if (query === state.query) return;
  state.query = query;
  if (!query) {
    state.hits = null;
    return apply();
  }
  const hits = (state.hits = new Uint8Array(columns.source.length));
  let drawn = 0, first = true;
  for (let at = 0; at < packed.length; at++) {
    const { texts, pairs } = await block(at, false);
    if (mine !== searches) return;
    const holds = texts.map((text) => text.toLowerCase().includes(query));
    pairs.forEach((pair, i) => {
      const named = [pair.chosen, pair.rejected, pair.diagnosis, ...(pair.critiques ?? []), ...pair.prompt.map((m) => m[1])];
      if (pair.id === query || named.some((place) => holds[place])) hits[starts[at] + i] = 1;
    });
    if (performance.now() - drawn > 200) {
      apply({ searching: !first });
      first = false;
      part("status").textContent = `Searching: ${Math.round((100 * at) / packed.length)}%`;
      await new Promise((resolve) => setTimeout(resolve));
      if (mine !== searches) return;
      drawn = performance.now();
    }
  }
  apply({ searching: !first });
}

// -- the list ---------------------------------------------------------------------------------------

function pageCount() {
  return Math.max(1, Math.ceil(state.order.length / ROWS));
}

function option(place) {
  const i = state.order[place];
  const snippet = element("bdi");
  appendText(snippet, index.snippets[i] || "(an empty prompt)");
  const said = [
    index.sources[columns.source[i]] + (index.splits[columns.split[i]] === "held_out" ? ", held out" : ""),
    `teacher ${signed(columns.teacher[i], 1)}`,
    `model ${signed(columns.model[i])}`,
    `apart by ${number(columns.disagreement[i], 1)}`,
  ];
  const made = element("div", "", snippet, ...said.map((text) => element("span", "", text + " ")));
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", place === state.at);
  made.id = `pair-option-${place}`;
  made.addEventListener("click", () => {
    choose(place);
    part("list").focus({ preventScroll: true });
  });
  return made;
}

function draw() {
  const page = Math.floor(state.at / ROWS), first = page * ROWS, count = state.order.length;
  const places = Array.from({ length: Math.min(ROWS, count - first) }, (_, i) => first + i);
  const list = part("list");
  list.replaceChildren(...places.map(option));
  if (count) list.setAttribute("aria-activedescendant", `pair-option-${state.at}`);
  else list.removeAttribute("aria-activedescendant");
  const all = columns.source.length.toLocaleString("en");
  part("status").textContent = count ? `${count.toLocaleString("en")} of ${all} pairs` : `None of ${all} pairs`;
  part("page").textContent = `Page ${page + 1} of ${pageCount().toLocaleString("en")}`;
  for (const button of root.querySelectorAll("[data-turn]")) {
    const forward = ["next", "last"].includes(button.dataset.turn);
    button.setAttribute("aria-disabled", forward ? page + 1 >= pageCount() : page === 0);
  }
  for (const button of root.querySelectorAll("[data-step]")) {
    const to = state.at + Number(button.dataset.step);
    button.setAttribute("aria-disabled", to < 0 || to >= count);
  }
  return show();
}

function choose(place) {
  state.at = Math.min(Math.max(0, place), Math.max(0, state.order.length - 1));
  return draw();
}

function turn(where) {
  const page = Math.floor(state.at / ROWS);
  const to = { first: 0, previous: page - 1, next: page + 1, last: pageCount() - 1 }[where];
  if (to >= 0 && to < pageCount()) choose(to * ROWS);
}

const KEYS = {
  ArrowDown: () => choose(state.at + 1),
  ArrowUp: () => choose(state.at - 1),
  PageDown: () => turn("next"),
  PageUp: () => turn("previous"),
  Home: () => choose(0),
  End: () => choose(state.order.length - 1),
  Enter: () => part("one").focus(),
};

// -- the pair ---------------------------------------------------------------------------------------

async function show() {
  const mine = ++state.shown, one = part("one");
  if (!state.order.length) {
    one.hidden = true;
    return;
  }
  const i = state.order[state.at], at = blockOf(i);
  const { texts, pairs } = await block(at);
  if (mine !== state.shown) return;
  drawPair(i, pairs[i - starts[at]], (place) => (place === null || place === undefined ? null : texts[place]));
  one.hidden = false;
}

function fact(name, ...value) {
  return element("div", "", element("dt", "", name), element("dd", "", ...value));
}

function withHeading(text, block) {
  return element("div", "", element("h4", "", text), block);
}

function drawPair(i, pair, text) {
  const source = index.sources[columns.source[i]], split = index.splits[columns.split[i]];
  part("title").textContent = `Pair ${(state.at + 1).toLocaleString("en")} of ${state.order.length.toLocaleString("en")}: ${source}`;
  const id = element("bdi");
  appendText(id, pair.id);
  part("facts").replaceChildren(
    fact("Teacher's scores (1 to 10)", `chosen ${number(columns.chosenScore[i], 1)}, rejected ${number(columns.rejectedScore[i], 1)}, margin ${signed(columns.teacher[i], 1)}`),
    fact("The model's rewards", columns.model[i] === null ? `none: ${pair.without ?? "the run kept none"}` : `chosen ${number(columns.chosenReward[i])}, rejected ${number(columns.rejectedReward[i])}, margin ${signed(columns.model[i])}`),
    fact(index.scored ? "Disagreement (points)" : "Disagreement (of a usual margin)", number(columns.disagreement[i])),
    fact("Chosen less rejected", `${signed(columns.length[i], 0)} characters`),
    fact("Used for", SPLITS[split] ?? "not said"),
    fact("Id", id),
  );
  const before = pair.prompt.map(([role, place], n) =>
    withHeading(pair.prompt.length > 1 ? `Prompt, ${role}'s turn ${n + 1}` : "Prompt", plainBlock(text(place))));
  const diagnosis = text(pair.diagnosis);
  if (diagnosis) before.push(withHeading("The teacher's diagnosis", plainBlock(diagnosis)));
  part("before").replaceChildren(...before);
  const [better, worse] = (pair.critiques ?? []).map(text);
  const after = [];
  if (worse) after.push(withHeading("The teacher's critique of the rejected response", plainBlock(worse)));
  if (better) after.push(withHeading("The teacher's critique of the chosen response", plainBlock(better)));
  part("after").replaceChildren(...after);
  drawSides(i, pair, source, text(pair.chosen), text(pair.rejected));
  state.redraw = () => drawSides(i, pair, source, text(pair.chosen), text(pair.rejected));
}

function sideTitle(name, model, score, reward) {
  const title = element("h4", "", name);
  if (model) {
    const who = element("bdi");
    appendText(who, model);
    title.append(" by ", who);
  }
  title.append(`: teacher ${number(score, 1)}, reward ${number(reward)}`);
  return title;
}

function drawSides(i, pair, source, chosen, rejected) {
  const better = source === "refined" ? "Refined response" : "Chosen response";
  const { blocks: drawn, note, legend } = views[state.view](pair, chosen, rejected, better.toLowerCase());
  const [chosenModel, rejectedModel] = pair.models ?? [];
  part("view-note").textContent = note ?? "";
  part("legend").replaceChildren(...(legend ? [legend] : []));
  part("sides").replaceChildren(
    element("div", "", sideTitle("Rejected response", rejectedModel, columns.rejectedScore[i], columns.rejectedReward[i]), drawn[0]),
    element("div", "", sideTitle(better, chosenModel, columns.chosenScore[i], columns.chosenReward[i]), drawn[1]),
  );
}

const views = {
  plain: (pair, chosen, rejected) => ({ blocks: [plainBlock(rejected), plainBlock(chosen)] }),
  edits: (pair, chosen, rejected) => {
    const fits = Math.max(chosen.length, rejected.length) <= MARKED;
    const edit = fits ? wordEdits(rejected, chosen) : null;
    if (edit === null) {
      return { ...views.plain(pair, chosen, rejected), note: "The two are too long, or differ in too much, to be marked word by word." };
    }
    const marked = (text, own) => textBlock(text, (parent, end) => drawEdit(parent, edit.runs, own, end));
    const percent = Math.round(100 * edit.share);
    const note = `${percent}% of the words are in both. Struck out: only in the rejected response. Underlined: only in the other.`;
    return {
      blocks: [marked(rejected, "removed"), marked(chosen, "added")],
      note: edit.share < 0.5 ? `${note} These are two separate texts rather than an edit.` : note,
    };
  },
  tokens: (pair, chosen, rejected, better) => {
    if (!pair.tokens) {
      const why = pair.withoutTokens ? `: ${pair.withoutTokens}` : ", which are kept for the most telling pairs only";
      return { ...views.plain(pair, chosen, rejected), note: `This pair has no values token by token${why}.` };
    }
    const [up, down] = [pieces(chosen, pair.tokens[0]), pieces(rejected, pair.tokens[1])];
    const most = largestMove(up, down);
    return {
      blocks: [
        tokenBlock("the rejected response", rejected, pair.tokens[1], down, most),
        tokenBlock(`the ${better}`, chosen, pair.tokens[0], up, most),
      ],
      legend: tokenLegend(most),
      note: "The reward is read at the end of a response. What the head says before it shows where its reading moves, and is no reward of the text so far.",
    };
  },
};

// -- start ------------------------------------------------------------------------------------------

function addOptions(select, names, shown = {}) {
  names.forEach((name, at) => {
    const count = columns[select.dataset.filter].filter((value) => value === at).length;
    const made = element("option", "", `${shown[name] ?? name} (${count.toLocaleString("en")})`);
    made.value = at;
    select.append(made);
  });
}

function listen() {
  let waiting;
  inputs.text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 250);
  });
  for (const input of root.querySelectorAll("select, input[type=number], input[type=checkbox]")) {
    input.addEventListener("input", () => apply());
  }
  part("reset").addEventListener("click", () => {
    for (const input of root.querySelectorAll("[data-filter], [data-low], [data-high]")) {
      if (input.type === "checkbox") input.checked = false;
      else if (input.tagName === "SELECT") input.selectedIndex = 0;
      else input.value = "";
    }
    state.query = "";
    state.hits = null;
    searches++;
    apply();
  });
  part("list").addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  for (const button of root.querySelectorAll("[data-turn]")) button.addEventListener("click", () => turn(button.dataset.turn));
  for (const button of root.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => choose(state.at + Number(button.dataset.step)));
  }
  for (const radio of root.querySelectorAll("[name=pair-view]")) {
    radio.addEventListener("change", () => {
      state.view = radio.value;
      state.redraw?.();
    });
  }
}

async function start() {
  root.hidden = false;
  if (!("DecompressionStream" in window)) {
    part("status").textContent = "This browser cannot inflate the pairs. They are in pairs.jsonl of the run's folder.";
    return;
  }
  index = await inflated(document.querySelector('script[data-pairs="index"]'));
  columns = index.columns;
  index.sources = index.sources.map(seen);
  starts = [];
  index.sizes.reduce((sum, size) => (starts.push(sum), sum + size), 0);
  addOptions(inputs.source, index.sources);
  addOptions(inputs.split, index.splits, SPLITS);
  if (!columns.disagreement.some((value) => value !== null)) inputs.sort.value = ":1";
  listen();
  apply();
  await show();
  performance.mark("pairs");
  root.dataset.ready = "yes";
}

start();
