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
  const scrolls = (box) => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
  const update = (box, isScrolling) => {
    const name = Object.entries(names).find(([kind]) => box.classList.contains(kind))?.[1];
    if (isScrolling) {
      box.tabIndex = 0;
      if (name) {
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", name);
      }
    } else if (box.hasAttribute("tabindex")) {
      box.removeAttribute("tabindex");
      if (name) {
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
      }
    }
  };
  const observer = new ResizeObserver((entries) => {
    // all sizes first: a reading after a change lays the page out again
    const found = entries.map(({ target }) => [target, scrolls(target)]);
    found.forEach(([box, isScrolling]) => update(box, isScrolling));
  });
  document
    .querySelectorAll(".katex-display, .pst-scrollable-table-container")
    .forEach((box) => observer.observe(box));
});
