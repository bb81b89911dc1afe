// Tables sort by a click on a heading; long ones have a field that keeps the rows which hold its text.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells];
  if (body.rows.length < 3) continue;
  const text = (row, column) => row.cells[column].textContent;
  const compare = (a, b) => {  // numbers by size, before texts
    const [x, y] = [Number.parseFloat(a), Number.parseFloat(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return Number.isNaN(x) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.type = "button";
    button.onclick = () => {
      const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      headings.forEach((one) => one.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const isKnown = (row) => text(row, column) !== "–";  // what is not known stands last in both orders
      body.append(...[...body.rows].sort((a, b) => isKnown(b) - isKnown(a) ||
        (order === "ascending" ? 1 : -1) * compare(text(a, column), text(b, column))));
    };
  });
  if (body.rows.length < 9) continue;
  const field = document.createElement("input");
  [field.type, field.placeholder, field.ariaLabel] = ["search", "only rows with ...", "only rows with"];
  field.oninput = () => {
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
  };
  table.closest(".table").querySelector(".tools").prepend(field);
}
