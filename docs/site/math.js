// Equations: the extension arithmatex has put each into an element of this class, between \( and \) or \[ and \].
for (const element of document.querySelectorAll(".arithmatex")) {
  const equation = element.textContent.trim().slice(2, -2);
  katex.render(equation, element, { displayMode: element.tagName === "DIV", throwOnError: false });
}
