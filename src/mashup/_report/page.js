"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => compared(one.cells[column], other.cells[column]) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}

function compared(one, other) {
  const [a, b] = [one, other].map((cell) => cell.dataset.value);
  if (a !== undefined && b !== undefined) return Number(a) - Number(b);
  if (a !== b && (a === undefined || b === undefined)) return a === undefined ? 1 : -1;
  return one.textContent.localeCompare(other.textContent);
}


// A link to a section opens it; printing opens all of them.
function reveal() {
  const aim = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (aim && aim.tagName === "DETAILS") {
    aim.open = true;
    aim.scrollIntoView();
  }
}
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
for (const link of document.querySelectorAll(".contents a")) {
  link.addEventListener("click", () => {
    document.getElementById(link.hash.slice(1)).open = true;
  });
}
reveal();
