// Choices on the findings of an audit: kept in the browser under the key of the audit, undone, and exported as a table.
"use strict";

severstal.choices = (() => {
  const { index, loader } = severstal;
  const count = index.rank.length;
  const KEY = `severstal-audit-${index.key}`;
  const CODES = ["", ...index.choices]; // stored as one digit per finding
  const given = index.given.length ? index.given : Array(count).fill("");
  let chosen = given.slice();
  let done = []; // [finding, choice before], the last one last
  let isKept = true;
  let changed = () => {};

  function parse(text) {
    if (typeof text !== "string" || text.length !== count) return null;
    const found = Array.from(text, (digit) => CODES[digit]);
    return found.includes(undefined) ? null : found;
  }

  function restore() {
    try {
      chosen = parse(localStorage.getItem(KEY)) || given.slice();
    } catch {
      isKept = false; // some browsers have no storage for pages opened as files
    }
  }

  function keep() {
    try {
      localStorage.setItem(KEY, chosen.map((choice) => CODES.indexOf(choice)).join(""));
      isKept = true;
    } catch {
      isKept = false; // no storage, or a full one
    }
  }

  function set(finding, choice) {
    done.push([finding, chosen[finding]]);
    chosen[finding] = choice;
    keep();
    changed();
  }

  // Undoes the last choice of this visit. Returns its finding; null if there is none.
  function undo() {
    if (!done.length) return null;
    const [finding, before] = done.pop();
    chosen[finding] = before;
    keep();
    changed();
    return finding;
  }

  function counts() {
    const found = Object.fromEntries(CODES.map((choice) => [choice, 0]));
    for (const choice of chosen) found[choice]++;
    return found;
  }

  // The table: the rows of the audit, unchanged, and the decision on each.
  async function table() {
    const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const line = (fields, choice) => `${[...fields, choice].map(quote).join(",")}\n`;
    const lines = [line(index.columns, index.decision)];
    for (let first = 0; first < count; first += index.rows) {
      for (const fields of await loader.rows(first / index.rows)) {
        lines.push(line(fields, chosen[lines.length - 1]));
      }
    }
    return lines.join("");
  }

  async function save() {
    const address = URL.createObjectURL(new Blob([await table()], { type: "text/csv" }));
    const link = Object.assign(document.createElement("a"), { href: address, download: "decisions.csv" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000); // the download may start late
  }

  restore();
  keep(); // shows at once whether the browser keeps choices
  // the same page in another tab
  addEventListener("storage", (event) => {
    if (event.key !== KEY && event.key !== null) return;
    chosen = parse(event.newValue) || given.slice();
    done = [];
    changed();
  });

  return {
    set, undo, counts, table, save,
    of: (finding) => chosen[finding],
    canUndo: () => done.length > 0,
    isKept: () => isKept,
    watch: (call) => { changed = call; },
  };
})();
