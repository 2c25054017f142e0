"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const options = { actions: false, renderer: "svg", ast: true, tooltip: true };
const studies = new Map();
const drawing = [...document.querySelectorAll("[data-spec]")].map(async (place) => {
  const { view } = await vegaEmbed(place, specs[Number(place.dataset.spec)], options);
  if (place.dataset.study) {
    studies.set(place.dataset.study, [...(studies.get(place.dataset.study) ?? []), view]);
  }
});
function valueOf(input) {
  return input.tagName === "SELECT" ? JSON.parse(input.value) : Number(input.value);
}
for (const input of document.querySelectorAll("[data-slider]")) {
  input.addEventListener("input", () => {
    input.parentElement.querySelector("output")?.replaceChildren(input.value);
    for (const view of studies.get(input.dataset.slider) ?? []) {
      view.signal(input.name, valueOf(input)).runAsync();
    }
  });
}
Promise.all(drawing).then(() => { document.documentElement.dataset.drawn = "yes"; });
