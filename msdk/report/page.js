"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  /* Switches: of a group of buttons one is pressed. */
  const choose = (name, chosen) => {
    for (const button of all(`[data-set-${name}]`)) {
      button.setAttribute("aria-pressed", String(button.getAttribute(`data-set-${name}`) === chosen));
    }
  };
  const onSwitch = (name, act) => {
    for (const button of all(`[data-set-${name}]`)) {
      button.addEventListener("click", () => {
        const chosen = button.getAttribute(`data-set-${name}`);
        choose(name, chosen);
        act(chosen);
      });
    }
  };
  onSwitch("theme", (theme) => { root.dataset.theme = theme; });
  onSwitch("unit", (unit) => { root.dataset.unit = unit; });
  const showMetric = (metric) => {
    for (const figure of all("figure.metric")) figure.hidden = figure.dataset.metric !== metric;
  };
  onSwitch("metric", showMetric);
  const first = document.querySelector("[data-set-metric]");
  if (first) showMetric(first.dataset.setMetric);

  /* Sorting: first up, then down; what is missing stays last. */
  for (const button of all("[data-sort]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const column = [...head.parentElement.children].indexOf(head);
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of head.parentElement.children) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const key = (row) => row.children[column].dataset.key;
      const compare = (a, b) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (column === 0 ? a.localeCompare(b) : Number(a) - Number(b));
      };
      body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    });
  }

  /* The strip: one stop of the tab key, arrow keys inside; the line below says what a call is. */
  for (const strip of all("figure.strip")) {
    const calls = all(".call", strip);
    const readout = strip.querySelector(".readout");
    const say = (call) => {
      for (const other of calls) other.classList.toggle("active", other === call);
      readout.textContent = call ? call.getAttribute("aria-label") : readout.dataset.rest;
    };
    const focused = () => calls.find((call) => call === document.activeElement);
    calls.forEach((call, index) => {
      call.addEventListener("pointerenter", () => say(call));
      call.addEventListener("pointerleave", () => say(focused()));
      call.addEventListener("focus", () => say(call));
      call.addEventListener("blur", () => say(undefined));
      call.addEventListener("click", () => move(index));
      call.addEventListener("keydown", (event) => {
        const target = {
          ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: calls.length - 1,
        }[event.key];
        if (target === undefined) return;
        event.preventDefault();
        move(Math.min(Math.max(target, 0), calls.length - 1));
      });
    });
    const move = (index) => {
      calls.forEach((call, other) => call.setAttribute("tabindex", other === index ? "0" : "-1"));
      calls[index].focus();
    };
  }

  /* On paper everything is open. */
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const one of closed) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
})();
