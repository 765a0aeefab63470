// The chapters that a reader has marked as read. They are kept in this browser and nowhere else, and
// only what the reader has marked: nothing is noted by itself.

const KEY = "seqbook-progress";
const VERSION = 1;
const FORGET = ".reading-progress";

/** Return the pages that are marked, or nothing where what is kept is of another version. */
export function parse(text) {
  try {
    const { version, read } = JSON.parse(text);
    return new Set(version === VERSION ? read.filter((page) => typeof page === "string") : []);
  } catch {
    return new Set();
  }
}

function load() {
  try {
    return parse(localStorage.getItem(KEY));
  } catch {
    return null; // a browser that keeps nothing
  }
}

function save(read) {
  try {
    if (read.size) localStorage.setItem(KEY, JSON.stringify({ version: VERSION, read: [...read] }));
    else localStorage.removeItem(KEY);
  } catch {} // full, or forbidden: the page shows what is kept
  show();
}

const pageOf = (address) => new URL(address).pathname.split("/").pop().replace(/\.html$/, "");

function tick(link, isRead) {
  link.classList.toggle("is-read", isRead);
  const said = link.querySelector(".read-said");
  if (isRead && !said) {
    const words = document.createElement("span");
    words.className = "read-said visually-hidden";
    words.textContent = ", read";
    link.append(words);
  } else if (!isRead) said?.remove();
}

function show() {
  const read = load();
  if (!read) return;
  for (const link of document.querySelectorAll(".bd-sidebar-primary .toctree-l1 > a, .chapter-map a")) {
    tick(link, read.has(pageOf(link.href)));
  }
  for (const button of document.querySelectorAll(".mark-read")) {
    const isRead = read.has(button.dataset.page);
    button.hidden = false;
    button.setAttribute("aria-pressed", isRead);
  }
  const progress = document.querySelector(FORGET);
  if (progress) {
    progress.hidden = read.size === 0;
    progress.querySelector("output").textContent =
      `You have marked ${read.size} ${read.size === 1 ? "chapter" : "chapters"} as read, in this browser only.`;
  }
}

for (const button of document.querySelectorAll(".mark-read")) {
  button.addEventListener("click", () => {
    const read = load() ?? new Set();
    if (!read.delete(button.dataset.page)) read.add(button.dataset.page);
    save(read);
  });
}
document.querySelector(`${FORGET} button`)?.addEventListener("click", () => save(new Set()));
addEventListener("storage", show);
addEventListener("pageshow", show);
show();
