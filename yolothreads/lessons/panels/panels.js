// Makes widgets usable by keyboard alone and for a screen reader; runs in the output of the cell that shows a panel.
setTimeout(() => {
  const area = element.closest(".jp-OutputArea");
  if (!area) return;
  // JupyterLab takes arrows and Enter as its own commands, even where the focus is on a list or a button, unless that
  // element says that it must not.
  area.addEventListener("focusin", event => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
  // Sliders have a visible name only, none for a screen reader.
  const name = () => area.querySelectorAll("[role=slider]:not([aria-label])").forEach(handle => {
    const label = handle.closest(".widget-inline-hbox")?.querySelector("label");
    if (label) handle.setAttribute("aria-label", label.textContent);
  });
  name();
  new MutationObserver(name).observe(area, {childList: true, subtree: true});
})
