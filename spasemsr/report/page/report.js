"use strict";
// What the page does beyond being read: compare two pictures closely, sort the table, show numbers under the pointer.
// Text from the data enters through textContent only, so that nothing in a caption or a tag can become markup.
(() => {
  const { first, images } = JSON.parse(document.getElementById("data").textContent);
  const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
  document.body.classList.add("scripted");

  const make = (tag, text, ...classes) => {
    const node = document.createElement(tag);
    node.textContent = text;
    node.classList.add(...classes);
    return node;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /** A button that shows and hides the object boxes inside a node. */
  function onToggle(button, node) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(node.classList.toggle("show-boxes")));
    });
  }

  /** One comparison of two pictures: a divider to drag, zoom and pan, boxes over both. */
  function createCompare(host) {
    host.append(document.getElementById("compare").content.cloneNode(true));
    const find = (selector) => host.querySelector(selector);
    const viewport = find(".viewport"), range = find(".split"), overlay = find(".overlay");
    const picks = { left: find("select.left"), right: find("select.right") };
    const state = { index: 0, at: 50, zoom: 1, x: 0.5, y: 0.5 };

    const named = (name) => images[state.index].pictures.find((picture) => picture.name === name);

    function place() {
      // x and y are the point of the picture at the centre of the viewport; its edges never come inside.
      const reach = 0.5 / state.zoom;
      state.x = clamp(state.x, reach, 1 - reach);
      state.y = clamp(state.y, reach, 1 - reach);
      viewport.style.setProperty("--wide", `${100 * state.zoom}%`);
      viewport.style.setProperty("--left", `${50 - 100 * state.zoom * state.x}%`);
      viewport.style.setProperty("--top", `${50 - 100 * state.zoom * state.y}%`);
      viewport.style.setProperty("--at", `${state.at}%`);
      viewport.classList.toggle("zoomed", state.zoom > 1);
      range.value = state.at;
      find("output").textContent = `${state.zoom}×`;
    }

    function fill(side) {
      const picture = named(picks[side].value);
      const image = find(`.${side}-picture`);
      image.src = document.getElementById(picture.id).src;
      image.alt = `${images[state.index].name}: ${picture.label}`;
      image.classList.toggle("pixels", picture.name === "lr");
      find(`.${side}-badge`).textContent = picture.label;
      const facts = picture.map ? [picture.map] : picture.scores.length ? picture.scores.map((pair) => pair.join(" ")) : [`${picture.width}×${picture.height} px`];
      find(`.${side}-scores`).replaceChildren(...facts.map((fact) => make("span", fact)));
    }

    function show(index, left, right) {
      state.index = (index + images.length) % images.length;
      const image = images[state.index], largest = image.pictures[image.pictures.length - 1];
      const names = image.pictures.map((picture) => picture.name);
      const known = { left: left || picks.left.value, right: right || picks.right.value };
      for (const side of ["left", "right"]) {
        picks[side].replaceChildren(...image.pictures.map((picture) => new Option(picture.label, picture.name)));
        picks[side].value = names.includes(known[side]) ? known[side] : names[side === "left" ? 0 : names.length - 1];
      }
      viewport.style.aspectRatio = `${largest.width} / ${largest.height}`;
      viewport.style.maxWidth = `calc(78vh * ${largest.width / largest.height})`;
      find(".name").textContent = image.name;
      find(".key").textContent = image.key;
      find(".caption").textContent = image.caption ? `Conditioning caption: ${image.caption}` : "";
      overlay.replaceChildren(...image.boxes.map((box, number) => {
        const node = make("span", "", "box", `b${(number + 1) % 6}`);
        for (const edge of ["left", "top", "width", "height"]) node.style[edge] = `${box[edge]}%`;
        node.append(make("b", box.tag));
        return node;
      }));
      Object.assign(state, { zoom: 1, x: 0.5, y: 0.5 });
      fill("left");
      fill("right");
      place();
    }

    function zoomTo(zoom, clientX, clientY) {
      const area = viewport.getBoundingClientRect();
      const dx = clientX === undefined ? 0 : (clientX - area.left) / area.width - 0.5;
      const dy = clientY === undefined ? 0 : (clientY - area.top) / area.height - 0.5;
      state.x += dx / state.zoom - dx / zoom; // the point under the pointer stays there
      state.y += dy / state.zoom - dy / zoom;
      state.zoom = zoom;
      place();
    }
    const step = (by) => ZOOMS[clamp(ZOOMS.indexOf(state.zoom) + by, 0, ZOOMS.length - 1)];

    viewport.addEventListener("pointerdown", (down) => {
      if (down.button !== 0) return;
      const area = viewport.getBoundingClientRect(), from = { x: state.x, y: state.y };
      const onDivider = Math.abs(down.clientX - area.left - (state.at / 100) * area.width) < 26;
      const slides = state.zoom === 1 || onDivider;
      const move = (event) => {
        if (slides) state.at = clamp((100 * (event.clientX - area.left)) / area.width, 0, 100);
        else {
          state.x = from.x - (event.clientX - down.clientX) / area.width / state.zoom;
          state.y = from.y - (event.clientY - down.clientY) / area.height / state.zoom;
        }
        place();
      };
      const stop = () => {
        viewport.removeEventListener("pointermove", move);
        for (const end of ["pointerup", "pointercancel"]) viewport.removeEventListener(end, stop);
      };
      viewport.setPointerCapture(down.pointerId);
      viewport.addEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"]) viewport.addEventListener(end, stop);
      if (slides && down.pointerType === "mouse") move(down);
    });
    viewport.addEventListener("dblclick", (event) => zoomTo(state.zoom > 1 ? 1 : 3, event.clientX, event.clientY));
    viewport.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && state.zoom === 1) return; // an unzoomed picture lets the page scroll
      event.preventDefault();
      zoomTo(step(event.deltaY < 0 ? 1 : -1), event.clientX, event.clientY);
    }, { passive: false });
    range.addEventListener("input", () => { state.at = Number(range.value); place(); });
    for (const side of ["left", "right"]) picks[side].addEventListener("change", () => fill(side));
    find(".in").addEventListener("click", () => zoomTo(step(1)));
    find(".out").addEventListener("click", () => zoomTo(step(-1)));
    find(".previous").addEventListener("click", () => show(state.index - 1));
    find(".next").addEventListener("click", () => show(state.index + 1));
    onToggle(find(".boxes"), viewport);
    host.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select")) return;
      if (event.key === "ArrowLeft") show(state.index - 1);
      if (event.key === "ArrowRight") show(state.index + 1);
    });
    return { show };
  }

  /** The pictures that stand beside each other by default: the first after lr, and the last before hr. */
  function pair(index, clicked) {
    const names = images[index].pictures.filter((picture) => !picture.map).map((picture) => picture.name);
    const last = names.filter((name) => name !== "hr").pop();
    if (clicked && !names.includes(clicked)) return [last, clicked]; // a map, over the result that it is of
    const left = names[1] && names[1] !== last ? names[1] : "lr";
    if (!clicked || clicked === last) return [left, last];
    return clicked === left || clicked === "lr" ? [clicked, last] : [last, clicked];
  }

  if (images.length) {
    createCompare(document.getElementById("stage")).show(first, ...pair(first));
    const dialog = document.getElementById("closer");
    const closer = createCompare(dialog);
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    for (const picture of document.querySelectorAll(".picture")) {
      const index = Number(picture.dataset.index);
      const open = () => { closer.show(index, ...pair(index, picture.dataset.name)); dialog.showModal(); };
      picture.tabIndex = 0;
      picture.setAttribute("role", "button");
      picture.setAttribute("aria-label", `Compare closely: ${picture.querySelector("img").alt}`);
      picture.addEventListener("click", open);
      picture.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
      });
    }
  } else document.getElementById("stage").remove();

  onToggle(document.getElementById("toggle-boxes"), document.getElementById("images"));

  // Table: click sorts, a second click turns it round; cells without a value stay at the end.
  const table = document.getElementById("image-table"), body = table.tBodies[0];
  const headings = [...table.querySelectorAll("th.sortable")];
  const column = (heading) => {
    const [first, second] = table.tHead.rows;
    const before = [...first.cells].filter((cell) => cell.rowSpan === 2);
    return heading.parentNode === first ? before.indexOf(heading) : before.length + [...second.cells].indexOf(heading);
  };
  for (const heading of headings) {
    heading.firstElementChild.addEventListener("click", () => {
      const place = column(heading), numeric = heading.dataset.kind === "number";
      const up = heading.getAttribute("aria-sort") === (numeric ? "descending" : null) ||
        (!numeric && heading.getAttribute("aria-sort") !== "ascending");
      const value = (row) => row.cells[place].dataset.value;
      const order = (one, two) => (numeric ? Number(one) - Number(two) : one.localeCompare(two, "en"));
      const rows = [...body.rows].sort((one, two) => {
        const [a, b] = [value(one), value(two)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return (up ? 1 : -1) * order(a, b);
      });
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows);
    });
  }

  // Plots: the nearest point says its numbers.
  for (const plot of document.querySelectorAll(".plot")) {
    const area = plot.querySelector(".area"), bubble = plot.querySelector(".bubble");
    const dots = [...plot.querySelectorAll(".dot")].map((node) => ({
      node, x: parseFloat(node.style.left), y: parseFloat(node.style.top),
    }));
    const leave = () => { bubble.hidden = true; dots.forEach((dot) => dot.node.classList.remove("near")); };
    const point = (event) => {
      const box = area.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      const apart = (dot) => {
        const dx = (dot.x / 100) * box.width - x, dy = (dot.y / 100) * box.height - y;
        return plot.dataset.hover === "x" ? Math.abs(dx) : Math.hypot(dx, dy) - (dot.node.classList.contains("mean") ? 6 : 0);
      };
      const near = dots.reduce((best, dot) => (apart(dot) < apart(best) ? dot : best));
      leave();
      if (plot.dataset.hover === "nearest" && apart(near) > 40) return;
      near.node.classList.add("near");
      bubble.textContent = near.node.dataset.text;
      bubble.hidden = false;
      const half = bubble.offsetWidth / 2, at = (near.x / 100) * box.width;
      const inset = area.offsetLeft;
      bubble.style.left = `${clamp(at, half - inset, Math.max(box.width - half, half - inset))}px`;
      bubble.style.top = `${near.y}%`;
    };
    area.addEventListener("pointermove", point);
    area.addEventListener("pointerdown", point);
    area.addEventListener("pointerleave", leave);
  }
})();
