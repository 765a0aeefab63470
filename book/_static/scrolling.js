"use strict";
/* What is too wide scrolls in its own box. A box that scrolls can be reached by keyboard, and says
   what it is; one that does not is no stop on the way. Formulas and tables that a fold hides are
   measured when it opens. */
const whenIdle = window.requestIdleCallback ?? setTimeout; // it is not needed to read
whenIdle(() => {
  const names = {
    "katex-display": "Formula, scrolls sideways",
    "pst-scrollable-table-container": "Table, scrolls sideways",
  };
  const update = (box) => {
    const name = Object.entries(names).find(([kind]) => box.classList.contains(kind))?.[1];
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) {
      box.tabIndex = 0;
      if (name) {
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", name);
      }
    } else {
      box.removeAttribute("tabindex");
      if (name) {
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
      }
    }
  };
  const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => update(target)));
  document
    .querySelectorAll(".katex-display, .pst-scrollable-table-container")
    .forEach((box) => observer.observe(box));
});
