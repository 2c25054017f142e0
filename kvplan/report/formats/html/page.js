"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const options = { actions: false, renderer: "svg", ast: true, tooltip: true };
const studies = new Map();
const drawing = [...document.querySelectorAll("[data-spec]")].map(async (place) => {
  const spec = specs[Number(place.dataset.spec)];
  if (place.clientWidth < 480) {  // a phone: the names of a legend stand below each other, and words are cut so that bars have a place
    const { axis, axisX, legend } = spec.config;
    spec.config = {
      ...spec.config, legend: { ...legend, columns: 1, labelLimit: place.clientWidth - 100 },
      axis: { ...axis, labelLimit: place.clientWidth * 0.35 }, axisX: { ...axisX, titleLimit: place.clientWidth * 0.6 },
    };
    const y = spec.encoding?.y;
    if (y?.type === "nominal") {  // names of bars go on below after a comma or before " on ", both lines about the bar's middle
      const axis = {
        labelExpr: "split(replace(datum.label, /, | on /, indexof(datum.label, ', ') < 0 ? '| on ' : ',|'), '|')", labelFontSize: 11, labelLineHeight: 12,
        labelOffset: { condition: { test: "test(/, | on /, datum.value)", value: -6 }, value: 0 },
        labelLimit: place.clientWidth * 0.42,
      };
      spec.encoding = { ...spec.encoding, y: { ...y, axis } };
    }
  }
  const { view } = await vegaEmbed(place, spec, options);
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
