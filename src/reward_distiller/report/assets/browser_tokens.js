// What the reward model's head says token by token: where it moves, how far, and the numbers.
const LARGE = 0.25; // of the largest move of the pair: from there on a token is underlined
const LISTED = 5; // largest moves of a response that are named

function signed(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : value > 0 ? "+" : "±") + text;
}

function number(value, digits = 2) {
  return value === null || value === undefined ? "–" : signed(value, digits).replace(/^[+±]/, "");
}

// The pieces of a response: its text, the value at its end, and by how much that is above the value before.
function pieces(text, along) {
  const found = [];
  let at = 0, before = along.opening ?? along.values[0];
  along.lengths.forEach((length, i) => {
    found.push({ start: at, text: text.slice(at, at + length), value: along.values[i], move: along.values[i] - before });
    at += length;
    before = along.values[i];
  });
  return found;
}

function largestMove(...sides) {
  return Math.max(1e-9, ...sides.map((side) => side.reduce((most, piece) => Math.max(most, Math.abs(piece.move)), 0)));
}

function tokenLegend(most) {
  const bar = element("span", "pairs-bar");
  bar.setAttribute("aria-hidden", "true");
  return element(
    "div",
    "pairs-scale",
    element("span", "", `down ${signed(-most)}`),
    bar,
    element("span", "", `up ${signed(most)}`),
    element("span", "", "by how much the head's value moves at a token. Large moves are underlined: up in a line, down in dots."),
  );
}

// A response with its values: the text, a slider that reads it token by token, and the largest moves.
function tokenBlock(name, text, along, found, most) {
  const slider = element("input");
  slider.type = "range";
  slider.min = 0;
  slider.max = Math.max(0, found.length - 1);
  slider.value = 0;
  const output = element("output", "");
  const spans = [];
  const say = (at) => {
    spans.forEach((span) => span.classList.remove("pairs-at"));
    spans[at]?.classList.add("pairs-at");
    const piece = found[at];
    if (!piece) return;
    const line = `: value ${number(piece.value)}, move ${signed(piece.move)}`;
    const shown = element("bdi");
    appendText(shown, JSON.stringify(piece.text).slice(0, 60));
    output.replaceChildren(`Token ${at + 1} of ${found.length} `, shown, line);
    slider.setAttribute("aria-valuetext", `${piece.text}${line}`);
  };
  const block = textBlock(text, (parent, end) => {
    spans.length = 0;
    for (const piece of found) {
      if (piece.start >= end) break;
      const span = element("span", piece.move < 0 ? "pairs-down" : "pairs-up");
      const heat = Math.abs(piece.move) / most;
      span.style.setProperty("--heat", `${Math.round(heat * 100)}%`);
      if (heat >= LARGE) span.classList.add("pairs-large");
      span.dataset.token = spans.length;
      appendText(span, piece.text);
      spans.push(span);
      parent.append(span);
    }
  });
  const point = (event) => {
    const token = event.target.closest?.("[data-token]")?.dataset.token;
    if (token !== undefined) {
      slider.value = token;
      say(Number(token));
    }
  };
  block.addEventListener("pointerover", point);
  block.addEventListener("click", point);
  slider.addEventListener("input", () => say(Number(slider.value)));
  slider.addEventListener("focus", () => say(Number(slider.value)));
  say(0);
  const label = element("label", "", `Read ${name} token by token`, slider);
  const made = element("div", "", block, element("div", "pairs-reader", label, output));
  const moves = [...found].sort((a, b) => Math.abs(b.move) - Math.abs(a.move)).slice(0, LISTED).filter((p) => p.move);
  if (moves.length) {
    const list = element("ol", "pairs-moves");
    for (const piece of moves) {
      const shown = element("bdi");
      appendText(shown, JSON.stringify(piece.text).slice(0, 60));
      list.append(element("li", "", shown, ` ${signed(piece.move)}, to ${number(piece.value)}`));
    }
    made.append(element("p", "pairs-hint", "The largest moves:"), list);
  }
  made.append(element("p", "pairs-hint", `Before the response ${number(along.opening)}; the reward, at its end, ${number(along.end)}.`));
  return made;
}
