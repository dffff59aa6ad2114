// The table of objects, edited where the person is. A click or a control changes it here and at once: no answer of the
// server, however late, can undo what was done after it was asked for. The server only draws the picture.
//
// A row is name, left, top, right and bottom in percent of the picture, and the object's own strength: a number from 0
// to 1, "off" for an object that is left out, or nothing where it is as the rest. `held` is what clicks left behind:
// the number of the chosen row from 0, the first corner of a box that is being drawn, the place of the latest click,
// how many rows the table had, and the edition, which grows with every change so that the picture is drawn again.

const objects = (() => {
  const NEW = "object"; // until it is named
  const LEAST = 1; // percent of a side: a smaller box is a slip of the hand
  const OFF = "off";
  let click = null; // the latest one: Gradio tells only the server where it was
  addEventListener("click", (event) => (click = event), true);

  const isNamed = (row) => String(row[0] ?? "").trim() !== "";
  const number = (cell) => (String(cell ?? "").trim() === "" ? NaN : Number(cell));

  function place() {
    const image = document.querySelector("#marked img");
    const frame = image.getBoundingClientRect(); // the picture lies in its middle, and is never enlarged
    const scale = Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight, 1);
    const share = (at, middle, side) => Math.min(Math.max(50 + (100 * (at - middle)) / (side * scale), 0), 100);
    return [
      share(click.clientX, frame.left + frame.width / 2, image.naturalWidth),
      share(click.clientY, frame.top + frame.height / 2, image.naturalHeight),
    ];
  }

  function strength(row) {
    if (String(row[5] ?? "").trim() === OFF) return ["out", 0.5];
    const given = number(row[5]);
    return Number.isNaN(given) ? ["rest", 0.5] : ["own", Math.min(Math.max(given, 0), 1)];
  }

  // The area of a row's box if the point is in it, else NaN.
  function areaAround(row, [x, y]) {
    const [left, top, right, bottom] = row.slice(1, 5).map(number);
    return left <= x && x <= right && top <= y && y <= bottom ? (right - left) * (bottom - top) : NaN;
  }

  // The smallest object around a point, or null.
  function chosenAt(rows, point) {
    let chosen = null;
    rows.forEach((row, n) => {
      const area = isNamed(row) ? areaAround(row, point) : NaN;
      if (chosen === null ? !Number.isNaN(area) : area < areaAround(rows[chosen], point)) chosen = n;
    });
    return chosen;
  }

  // With the second corner a new object lies between the two, and is chosen.
  function drawnAt(rows, held, point) {
    if (held.corner === null) return { ...held, corner: point };
    const [x0, x1] = [held.corner[0], point[0]].sort((a, b) => a - b);
    const [y0, y1] = [held.corner[1], point[1]].sort((a, b) => a - b);
    if (x1 - x0 < LEAST || y1 - y0 < LEAST) return { ...held, corner: null };
    const names = rows.map((row) => row[0]);
    let name = NEW;
    for (let n = 2; names.includes(name); n++) name = `${NEW} ${n}`;
    const sides = [x0, y0, x1, y1].map((side) => Math.round(10 * side) / 10);
    const kept = rows.filter(isNamed); // an empty table has one empty row
    return { rows: [...kept, [name, ...sides, null]], chosen: kept.length, corner: null };
  }

  // The new values of the table, if it changed, of `held`, and of the controls: name, how, own strength.
  function shown(table, held, { rows = table.data, chosen, corner }, place = held.place) {
    const row = chosen === null ? [] : rows[chosen];
    const [how, own] = strength(row);
    return [
      rows === table.data ? undefined : { ...table, data: rows, metadata: null },
      { chosen, corner, place, of: rows.length, edition: held.edition + 1 },
      String(row[0] ?? ""),
      how,
      { __type__: "update", value: own, visible: how === "own" },
    ];
  }

  // The chosen row with another value in a column.
  function withCell(table, held, column, value) {
    if (held.chosen === null) return shown(table, held, held);
    const changed = table.data[held.chosen].map((cell, n) => (n === column ? value : cell));
    const rows = table.data.map((row, n) => (n === held.chosen ? changed : row));
    return shown(table, held, { ...held, rows });
  }

  return {
    clicked(table, held, does) {
      const point = place();
      const choose = () => ({ chosen: chosenAt(table.data, point), corner: null });
      return shown(table, held, does === "draw" ? drawnAt(table.data, held, point) : choose(), point);
    },
    // By hand in the table: what was chosen stays so unless a row came or went.
    typed(table, held) {
      return shown(table, held, { ...held, chosen: table.data.length === held.of ? held.chosen : null });
    },
    renamed(table, held, name) {
      return name.trim() ? withCell(table, held, 0, name.trim()) : shown(table, held, held);
    },
    dialled(table, held, how, own) {
      return withCell(table, held, 5, { rest: null, own, out: OFF }[how]);
    },
    removed(table, held) {
      if (held.chosen === null) return shown(table, held, held);
      const rows = table.data.filter((row, n) => n !== held.chosen);
      return shown(table, held, { rows, chosen: null, corner: null });
    },
    // What was seen in a photograph: its caption if none was written meanwhile, and its objects; nothing of another one.
    seen(table, held, caption, file, { path, rows, text }) {
      if (file?.path !== path) return [];
      return [caption.trim() ? undefined : text, ...shown(table, held, { rows, chosen: null, corner: null })];
    },
  };
})();
