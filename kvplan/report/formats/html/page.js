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
    for (const { encoding } of [spec, ...spec.layer ?? []]) {  // and a long title of an axis goes on below
      if (encoding?.x?.title?.length > 28) { encoding.x = { ...encoding.x, title: halves(encoding.x.title) }; }
    }
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
function halves(words) {
  const spaces = [...words.matchAll(/ /g)].map((found) => found.index);
  const middle = Math.min(...spaces.map((place) => Math.abs(place - words.length / 2)));
  const at = spaces.find((place) => Math.abs(place - words.length / 2) === middle);
  return at === undefined ? words : [words.slice(0, at), words.slice(at + 1)];
}
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
