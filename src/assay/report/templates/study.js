
/* A table is sorted by the column whose heading is clicked: numbers first, then words. */
function order(row, column) {
  const cell = row.cells[column];
  const number = parseFloat(cell.dataset.value ?? cell.textContent.replace(/,/g, "").replace("−", "-"));
  return [isNaN(number) ? 1 : 0, number, cell.textContent];
}
for (const heading of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.className = "sort";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const body = heading.closest("table").tBodies[0];
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].sort((one, two) => {
      const [a, x, s] = order(one, heading.cellIndex), [b, y, t] = order(two, heading.cellIndex);
      return (a - b) || (a ? s.localeCompare(t) : x - y) * (up ? 1 : -1);
    });
    body.append(...rows);
  });
}

for (const button of document.querySelectorAll("button.save")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const figures = [...button.closest("figure").querySelectorAll("svg")];
    const seen = figures.find((svg) => svg.getClientRects().length) ?? figures[0];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(
      new Blob([new XMLSerializer().serializeToString(seen)], { type: "image/svg+xml" }));
    link.download = button.dataset.name + ".svg";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
