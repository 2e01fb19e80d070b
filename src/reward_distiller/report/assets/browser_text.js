// Texts of other people as text: what they hold becomes text nodes, and what cannot be seen is spelled out.
const CLIP = 8000; // UTF-16 units of a text that are shown at first
const MARKED = 400000; // and at most so many with marks in them; a longer text is shown without
const DEEP = 2000; // words by which two texts may differ and still be marked word by word
const UNSEEN =
  /([\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}]|\r(?!\n))\1*/gu;
const WORD = /\s+|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|[\p{L}\p{N}\p{M}_]+|[^]/gu;

function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function codePoint(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

// Appends a text. Characters that cannot be seen, or that would turn the text around, become their names.
function appendText(parent, text) {
  if (text.length > MARKED) {
    const readable = text.replace(UNSEEN, "\ufffd");
    for (let at = 0; at < readable.length; at += 65536) parent.append(readable.slice(at, at + 65536));
    return;
  }
  let done = 0;
  for (const found of text.matchAll(UNSEEN)) {
    if (found.index > done) parent.append(text.slice(done, found.index));
    const times = found[0].length / found[1].length;
    parent.append(element("span", "pairs-control", codePoint(found[1]) + (times > 1 ? ` ×${times}` : "")));
    done = found.index + found[0].length;
  }
  if (done < text.length) parent.append(text.slice(done));
}

// A name of someone else's within a sentence of ours: one line, nothing that turns it around.
function seen(name) {
  return name.slice(0, 60).replace(UNSEEN, (_, character) => codePoint(character));
}

// The end of a text's beginning that is about `limit` long and splits no character.
function clipped(text, limit) {
  if (text.length <= limit) return text.length;
  const last = text.charCodeAt(limit - 1);
  return last >= 0xd800 && last < 0xdc00 ? limit - 1 : limit;
}

// A block of text whose beginning is shown, and all of it on request. `draw(block, end)` fills it up to there.
function textBlock(text, draw) {
  const block = element("div", "pairs-text");
  block.dir = "auto";
  const whole = element("div", "", block);
  const end = clipped(text, CLIP);
  draw(block, end);
  if (end < text.length) {
    const button = element("button", "", `Show all ${text.length.toLocaleString("en")} characters`);
    button.type = "button";
    button.addEventListener("click", () => {
      block.replaceChildren();
      draw(block, text.length);
      block.tabIndex = -1;
      block.focus();
      button.parentElement.remove();
    });
    whole.append(element("p", "pairs-more", button));
  }
  return whole;
}

function plainBlock(text) {
  return textBlock(text, (block, end) => appendText(block, text.slice(0, end)));
}

// -- the edit, word by word -------------------------------------------------------------------------

// Runs [kind, text] of what two texts share ("same") and of what only one has ("removed", "added"), and the share of
// words that stayed. Myers' greedy algorithm between what both begin and end with; null where they differ too much.
function wordEdits(before, after) {
  const a = before.match(WORD) ?? [];
  const b = after.match(WORD) ?? [];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const path = shortestEdit(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  if (path === null) return null;
  const steps = [...Array(head).fill("same"), ...path, ...Array(tail).fill("same")];
  const runs = [];
  let x = 0, y = 0, same = 0;
  for (const kind of steps) {
    const word = kind === "added" ? b[y] : a[x];
    if (kind !== "added") x++;
    if (kind !== "removed") y++;
    if (kind === "same" && word.trim()) same++;
    if (runs.length && runs.at(-1)[0] === kind) runs.at(-1)[1] += word;
    else runs.push([kind, word]);
  }
  const words = (list) => list.reduce((n, word) => n + (word.trim() ? 1 : 0), 0);
  return { runs, share: same / Math.max(1, words(a), words(b)) };
}

function shortestEdit(a, b) {
  const n = a.length, m = b.length, most = Math.min(n + m, DEEP);
  const trace = [];
  let reach = new Int32Array(3);
  for (let d = 0; d <= most; d++) {
    const next = new Int32Array(2 * d + 3);
    for (let k = -d; k <= d; k += 2) {
      // `reach` holds the furthest x of diagonal k at k + d, of the round before.
      const down = k === -d || (k !== d && reach[k - 1 + d] < reach[k + 1 + d]);
      let x = d === 0 ? 0 : down ? reach[k + 1 + d] : reach[k - 1 + d] + 1;
      let y = x - k;
      while (x < n && y < m && a[x] === b[y]) x++, y++;
      next[k + d + 1] = x;
      if (x >= n && y >= m) {
        trace.push(next);
        return walkedBack(trace, n, m);
      }
    }
    trace.push(next);
    reach = next;
  }
  return null;
}

// trace[d][k + d + 1] is the furthest x on diagonal k after d edits.
function walkedBack(trace, n, m) {
  const steps = [];
  let x = n, y = m;
  for (let d = trace.length - 1; d >= 0; d--) {
    const k = x - y;
    const before = (diagonal) => trace[d - 1][diagonal + d];
    const down = d > 0 && (k === -d || (k !== d && before(k - 1) < before(k + 1)));
    const fromX = d === 0 ? 0 : down ? before(k + 1) : before(k - 1);
    const fromY = d === 0 ? 0 : fromX - (down ? k + 1 : k - 1);
    while (x > fromX && y > fromY) steps.push("same"), x--, y--;
    if (d > 0) steps.push(down ? "added" : "removed");
    x = fromX;
    y = fromY;
  }
  return steps.reverse();
}

// Draws one side of an edit: what both share, and what only this side has.
function drawEdit(block, runs, own, end) {
  let length = 0;
  for (const [kind, text] of runs) {
    if (kind !== "same" && kind !== own) continue;
    const part = text.slice(0, end - length);
    length += text.length;
    if (!part) break;
    if (kind === "same") appendText(block, part);
    else {
      const mark = element(own === "added" ? "ins" : "del");
      appendText(mark, part);
      block.append(mark);
    }
  }
}
