// The head of the page names the current section, above one segment for each section of the page.

const sections = [...document.querySelectorAll(".bd-article > section > section")];
const name = document.querySelector(".page-section");
const bar = document.querySelector(".page-segments");
const ENOUGH = 3; // a page with fewer sections needs no guide

function title(section) {
  const heading = section.querySelector("h2").cloneNode(true);
  for (const part of heading.querySelectorAll(".headerlink, .section-number, .katex-mathml")) part.remove();
  return heading.textContent.trim();
}

function start() {
  const titles = sections.map(title);
  const segments = sections.map(() => document.createElement("span"));
  bar.append(...segments);
  let current;
  let waiting = false;

  // All sizes are read before anything is written, since each reading after a change lays the page
  // out again.
  function measure() {
    const heights = sections.map((section) => section.offsetHeight);
    show();
    segments.forEach((segment, i) => {
      segment.style.flexGrow = heights[i];
    });
  }

  function show() {
    waiting = false;
    const line = innerHeight / 3;
    const now = sections.findLastIndex((section) => section.getBoundingClientRect().top < line);
    if (now === current) return;
    current = now;
    name.textContent = titles[now] ?? "";
    segments.forEach((segment, i) => {
      segment.className = i < now ? "passed" : i === now ? "current" : "";
    });
  }

  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(show);
  }, { passive: true });
  new ResizeObserver(measure).observe(document.querySelector(".bd-article"));
}

if (bar && sections.length >= ENOUGH && sections.every((section) => section.querySelector("h2"))) start();
