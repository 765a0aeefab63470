// Show those claims that hold all the words typed, and say how many they are.
const form = document.querySelector(".claims-filter");
const [field, said] = [form.querySelector("input"), form.querySelector("output")];
const rows = [...document.querySelectorAll("table.claims-table tbody tr")];
const texts = rows.map((row) => row.textContent.toLowerCase());

function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  rows.forEach((row, i) => {
    row.hidden = !words.every((word) => texts[i].includes(word));
  });
  const isEmpty = (part) => !part.querySelector("tbody tr:not([hidden])");
  for (const table of document.querySelectorAll("table.claims-table")) {
    table.hidden = isEmpty(table);
    // A chapter without such a claim keeps its heading only in the list of contents.
    const section = table.closest("section");
    section.hidden = isEmpty(section);
  }
  const shown = rows.filter((row) => !row.hidden).length;
  said.textContent = words.length ? `${shown} of ${rows.length} claims` : "";
}

form.addEventListener("submit", (event) => event.preventDefault());
field.addEventListener("input", filter);
form.hidden = false;
filter(); // a browser may keep what was typed before a reload
