// The viewer: niivue draws image, fill of the mask and uncertainty; contours are drawn on a canvas above it.
// Voxels are addressed as niivue orders them: x to the right, y to the front, z to the head of the patient.
"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const root = get("viewer");
  if (!root) return;
  const facts = JSON.parse(get("viewer-facts").textContent);
  const ALL = "all", NONE = "none", AXES = ["sagittal", "coronal", "axial"];
  const IN_PLANE = [[1, 2], [0, 2], [0, 1]];  // horizontal and vertical axis of a slice across x, y, z
  const ACROSS = [2, 1, 0];                   // axis across niivue's slice types axial, coronal, sagittal
  const state = { nv: null, number: -1, turn: 0, layers: {}, contours: new Map() };
  window.medsegdiffViewer = state;            // for scripts that look at the page

  const unpack = async (id) => {
    const bytes = Uint8Array.from(atob(get(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  };

  const message = (text) => { get("viewer-message").textContent = text; };

  async function start() {
    root.dataset.state = "loading";
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await unpack("viewer-library"));
    document.head.append(script);
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser offers no WebGL 2");
    const nv = new niivue.Niivue({
      logLevel: "error", isRadiologicalConvention: true, isNearestInterpolation: true, dragAndDropEnabled: false,
      crosshairWidth: 0, multiplanarShowRender: 0, viewModeHotKey: "", clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "", loadingText: "",
    });
    await nv.attachToCanvas(get("viewer-canvas"), false);
    state.nv = nv;
    const drawScene = nv.drawScene.bind(nv);
    nv.drawScene = () => { const place = drawScene(); drawContours(); return place; };
    nv.onLocationChange = showPlace;
    nv.onIntensityChange = () => showWindow();
    await open(0);
  }

  // A case ---------------------------------------------------------------------------------------------------------

  function colours() {  // a label has the colour of the smallest structure that holds it
    const by = new Map();
    for (const s of [...facts.structures].sort((a, b) => b.labels.length - a.labels.length))
      for (const label of s.labels) by.set(label, s.colour);
    const lut = { R: [], G: [], B: [], A: [], I: [] };
    for (const label of [0, ...[...by.keys()].filter((l) => l > 0).sort((a, b) => a - b)]) {
      const hex = by.get(label) ?? "#000000";
      [lut.R, lut.G, lut.B].forEach((channel, i) => channel.push(parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16)));
      lut.A.push(label && by.has(label) ? 255 : 0);
      lut.I.push(label);
    }
    return lut;
  }

  async function open(number) {
    const one = facts.cases[number], nv = state.nv, turn = ++state.turn;
    root.dataset.state = "loading";
    message("loading");
    get("viewer-case").value = number;
    const layers = {};
    for (const [name, id] of Object.entries(one.layers)) {
      const volume = await niivue.NVImage.new(await unpack(id), name + ".nii", "gray", 1);
      if (state.turn !== turn) return;  // another case was asked for meanwhile
      if (name === "image" && one.window) [volume.cal_min, volume.cal_max] = one.window;
      if (name === "uncertainty") { volume.colormap = "inferno"; [volume.cal_min, volume.cal_max] = [0.02, 1]; }
      if (["prediction", "reference", "samples"].includes(name)) volume.setColormapLabel(colours());
      layers[name] = volume;
    }
    state.contours.clear();
    [state.layers, state.number] = [layers, number];
    nv.volumes = [layers.image, layers.prediction, layers.uncertainty].filter(Boolean);  // all at once: niivue is slow
    [nv.back, nv.overlays] = [nv.volumes[0], nv.volumes.slice(1)];
    root.dataset.state = "ready";
    message("");
    showLayers();
    nv.updateGLVolume();
    setUp(one);
  }

  function setUp(one) {
    const { nv, layers } = state, dims = layers.image.dimsRAS.slice(1, 4);
    for (const name of ["image", "reference", "uncertainty"]) get("show-" + name).disabled = one.absent.includes(name);
    get("show-inclusion").disabled = get("viewer-sample").disabled = !layers.samples;
    const options = [[NONE, "none"], [ALL, "all contours"]];
    for (let i = 0; i < numSamples(); i++) options.push([i, "no. " + (i + 1)]);
    get("viewer-sample").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    get("viewer-notes").replaceChildren(...one.notes.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
    const flat = dims.indexOf(1);
    get("viewer-planes").hidden = flat >= 0;
    AXES.forEach((name, axis) => {
      const slider = get("slice-" + name);
      slider.parentElement.hidden = flat >= 0;
      [slider.min, slider.max, slider.step] = [0, dims[axis] - 1, 1];
    });
    for (const name of ["low", "high"]) {
      const slider = get(name), [low, high] = one.range ?? [0, 1];
      slider.parentElement.hidden = !one.range;
      [slider.min, slider.max, slider.step] = [low, high, (high - low) / 255 || 1];
    }
    nv.opts.isOrientationTextVisible = !one.picture;
    get("viewer-sides").hidden = one.picture;
    nv.setSliceType(flat >= 0 ? ACROSS.indexOf(flat) : Number(get("viewer-planes").value));
    showWindow();
    moveTo(toRAS(one.start));
    get("zoom").value = 1;
    zoom();
  }

  // From voxels of the file on the prediction's grid to niivue's order and back.
  function toRAS(voxel) {
    const image = state.layers.image;
    return image.permRAS.map((p) => p < 0 ? image.hdr.dims[-p] - 1 - voxel[-p - 1] : voxel[p - 1]);
  }

  function toFile(ras) {
    const image = state.layers.image, offset = facts.cases[state.number].offset, voxel = [0, 0, 0];
    image.permRAS.forEach((p, axis) => {
      const place = Math.abs(p) - 1;
      voxel[place] = (p < 0 ? image.hdr.dims[-p] - 1 - ras[axis] : ras[axis]) + offset[place];
    });
    return voxel;
  }

  // The value of a layer at a voxel in niivue's order.
  function valueAt(volume, ras, frame = 0) {
    const { img, img2RASstart: start, img2RASstep: step, hdr } = volume;
    const size = hdr.dims[1] * hdr.dims[2] * hdr.dims[3];
    return img[frame * size + start[0] + start[1] + start[2] + ras[0] * step[0] + ras[1] * step[1] + ras[2] * step[2]];
  }

  const numSamples = () => state.layers.samples ? Math.max(1, state.layers.samples.hdr.dims[4]) : 0;

  // What is shown --------------------------------------------------------------------------------------------------

  function showLayers() {
    const { layers } = state, isOn = (name) => get("show-" + name).checked;
    const opacity = { image: isOn("image") ? 1 : 0, prediction: isOn("prediction") ? Number(get("fill").value) : 0,
                      uncertainty: isOn("uncertainty") ? 0.75 : 0 };
    for (const [name, value] of Object.entries(opacity)) if (layers[name]) layers[name].opacity = value;
    get("fill-value").textContent = Math.round(100 * get("fill").value) + " %";
  }

  function changeLayers() {
    const { nv } = state;
    showLayers();
    nv.overlays.forEach((volume, i) => nv.refreshLayers(volume, i + 1));  // the image stays as it is
    nv.drawScene();
  }

  function moveTo(ras) {
    const dims = state.layers.image.dimsRAS;
    state.nv.scene.crosshairPos = ras.map((v, axis) => (v + 0.5) / dims[axis + 1]);
    state.nv.createOnLocationChange();
    state.nv.drawScene();
  }

  function zoom() {  // the crosshair keeps its place
    const by = Number(get("zoom").value), mm = state.nv.frac2mm(state.nv.scene.crosshairPos);
    get("zoom-value").textContent = by + " x";
    state.nv.setPan2Dxyzmm([-(by - 1) * mm[0], -(by - 1) * mm[1], -(by - 1) * mm[2], by]);
  }

  function place() {
    const dims = state.layers.image.dimsRAS;
    return [...state.nv.scene.crosshairPos].map((f, axis) =>
      Math.min(dims[axis + 1] - 1, Math.max(0, Math.floor(f * dims[axis + 1]))));
  }

  function names(label) {
    const found = facts.structures.filter((s) => s.labels.includes(label)).map((s) => s.name);
    return found.length ? found.join(" + ") : "background";
  }

  function showPlace(location) {
    const { layers } = state, one = facts.cases[state.number];
    if (!layers.image || root.dataset.state === "waiting") return;
    const ras = place(), parts = [`voxel ${toFile(ras).join(", ")}`];
    if (!one.picture) parts.push([...location.mm].slice(0, 3).map((v) => v.toFixed(1)).join(", ") + " mm");
    if (one.range) {
      const { scl_slope: slope, scl_inter: start } = layers.image.hdr;
      parts.push("image " + Number((valueAt(layers.image, ras) * slope + start).toPrecision(4)));
    }
    if (layers.prediction) parts.push("mask " + names(valueAt(layers.prediction, ras)));
    if (layers.reference) parts.push("reference " + names(valueAt(layers.reference, ras)));
    if (layers.uncertainty) parts.push("uncertainty " + (valueAt(layers.uncertainty, ras) / 255).toFixed(2));
    if (layers.samples) for (const s of facts.structures) {
      let held = 0;
      for (let i = 0; i < numSamples(); i++) held += s.labels.includes(valueAt(layers.samples, ras, i)) ? 1 : 0;
      if (held) parts.push(`${s.name} in ${held} of ${numSamples()} samples`);
    }
    get("viewer-place").textContent = parts.join(" · ");
    AXES.forEach((name, axis) => {
      get("slice-" + name).value = ras[axis];
      get(`slice-${name}-value`).textContent = `${ras[axis] + 1} of ${layers.image.dimsRAS[axis + 1]}`;
    });
  }

  function showWindow() {
    const image = state.layers.image;
    if (!image) return;
    for (const [name, value] of [["low", image.cal_min], ["high", image.cal_max]]) {
      get(name).value = value;
      get(name + "-value").textContent = Number(value.toPrecision(4));
    }
  }

  // Contours -------------------------------------------------------------------------------------------------------

  // Closed lines [u, v, u, v, ...] between the voxels of a slice that are held and those that are not: marching squares,
  // whose pieces run from edge to edge of a cell; every middle of an edge joins two pieces.
  const EDGES = [[1, 0], [2, 1], [1, 2], [0, 1]];  // in half voxels
  const PIECES = [[], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]], [[2, 3]], [[0, 2]],
                  [[0, 1], [2, 3]], [[1, 2]], [[1, 3]], [[0, 1]], [[3, 0]], []];

  function loops(held, width, height) {
    const at = (u, v) => u >= 0 && v >= 0 && u < width && v < height && held[u + v * width] ? 1 : 0;
    const row = 2 * width + 4, neighbours = new Map(), found = [];
    const join = (a, b) => neighbours.has(a) ? neighbours.get(a).push(b) : neighbours.set(a, [b]);
    for (let v = -1; v < height; v++)
      for (let u = -1; u < width; u++) {
        const kind = at(u, v) | at(u + 1, v) << 1 | at(u + 1, v + 1) << 2 | at(u, v + 1) << 3;
        for (const ends of PIECES[kind]) {
          const [a, b] = ends.map((e) => 2 * u + EDGES[e][0] + 2 + (2 * v + EDGES[e][1] + 2) * row);
          join(a, b);
          join(b, a);
        }
      }
    for (const first of neighbours.keys()) {
      const line = [];
      for (let point = first; neighbours.get(point).length;) {
        line.push((point % row - 2) / 2, (Math.floor(point / row) - 2) / 2);
        const next = neighbours.get(point).pop(), back = neighbours.get(next);
        back.splice(back.indexOf(point), 1);
        point = next;
      }
      if (line.length) found.push(line);
    }
    return found;
  }

  // The values of a layer in a slice, its horizontal axis first.
  function cut(name, frame, axis, slice) {
    const { img, img2RASstart: start, img2RASstep: step, hdr, dimsRAS } = state.layers[name], [a, b] = IN_PLANE[axis];
    const width = dimsRAS[a + 1], height = dimsRAS[b + 1], values = new Uint16Array(width * height);
    let origin = frame * hdr.dims[1] * hdr.dims[2] * hdr.dims[3] + start[0] + start[1] + start[2] + slice * step[axis];
    for (let v = 0, i = 0; v < height; v++, origin += step[b])
      for (let u = 0, place = origin; u < width; u++, place += step[a]) values[i++] = img[place];
    return values;
  }

  // Contours are kept until another case is opened: `held` gives the slice, 1 where the voxels are inside.
  function contour(key, axis, slice, held) {
    key = `${key} ${axis} ${slice}`;
    if (!state.contours.has(key)) {
      if (state.contours.size > 2000) state.contours.clear();
      const dims = state.layers.image.dimsRAS, [a, b] = IN_PLANE[axis];
      state.contours.set(key, loops(held(), dims[a + 1], dims[b + 1]));
    }
    return state.contours.get(key);
  }

  function* wanted(axis, slice) {  // [contours, colour, width, dashes]
    const { layers } = state, isOn = (name) => get("show-" + name).checked && !get("show-" + name).disabled;
    const chosen = get("viewer-sample").value;
    for (const [number, s] of facts.structures.entries()) {
      const inside = (name, frame = 0) => cut(name, frame, axis, slice).map((label) => s.labels.includes(label) ? 1 : 0);
      if (layers.samples && chosen !== NONE)
        for (let i = 0; i < numSamples(); i++)
          if (chosen === ALL || Number(chosen) === i)
            yield [contour(`sample ${i} ${number}`, axis, slice, () => inside("samples", i)), s.colour,
                   chosen === ALL ? 0.8 : 1.8, []];
      if (isOn("inclusion"))
        for (const [i, percent] of facts.percents.entries()) {
          const held = () => {
            const count = inside("samples");
            for (let k = 1; k < numSamples(); k++) inside("samples", k).forEach((one, place) => { count[place] += one; });
            return count.map((one) => one * 100 >= percent * numSamples() ? 1 : 0);
          };
          yield [contour(`inclusion ${percent} ${number}`, axis, slice, held), s.colour, 1.4, i ? [2, 3] : [7, 4]];
        }
      if (isOn("prediction"))
        yield [contour(`prediction ${number}`, axis, slice, () => inside("prediction")), s.colour, 2, []];
      if (isOn("reference"))
        yield [contour(`reference ${number}`, axis, slice, () => inside("reference")), "#ffffff", 1.4, []];
    }
  }

  function drawContours() {
    const { nv, layers } = state, lines = get("viewer-lines");
    [lines.width, lines.height] = [nv.canvas.width, nv.canvas.height];
    if (root.dataset.state !== "ready" || !layers.prediction) return;
    const pen = lines.getContext("2d"), scale = nv.uiData.dpr || 1, dims = layers.image.dimsRAS.slice(1);
    for (const tile of nv.screenSlices) {
      if (tile.axCorSag > 2) continue;
      const axis = ACROSS[tile.axCorSag], [across, up] = IN_PLANE[axis], here = place();
      const corner = nv.frac2mm([0.5 / dims[0], 0.5 / dims[1], 0.5 / dims[2]]);
      const next = nv.frac2mm([1.5 / dims[0], 1.5 / dims[1], 1.5 / dims[2]]);
      let [left, top, width, height] = tile.leftTopWidthHeight;
      const mirrored = width < 0 || tile.fovMM[0] < 0;
      if (width < 0) [left, width] = [left + width, -width];
      const along = (v, a, start, extent) => (corner[a] + v * (next[a] - corner[a]) - start) / extent;
      const x = (u) => left + width * along(u, across, tile.leftTopMM[0], tile.fovMM[0]);
      const y = (v) => top + height * (1 - along(v, up, tile.leftTopMM[1], tile.fovMM[1]));
      pen.save();
      pen.beginPath();
      pen.rect(left, top, width, height);
      pen.clip();
      if (mirrored && tile.fovMM[0] > 0) { pen.translate(2 * left + width, 0); pen.scale(-1, 1); }
      for (const [found, colour, thickness, dashes] of wanted(axis, here[axis])) {
        pen.beginPath();
        for (const line of found) {
          pen.moveTo(x(line[0]), y(line[1]));
          for (let i = 2; i < line.length; i += 2) pen.lineTo(x(line[i]), y(line[i + 1]));
          pen.closePath();
        }
        pen.strokeStyle = colour;
        pen.lineWidth = thickness * scale;
        pen.lineCap = "round";
        pen.setLineDash(dashes.map((d) => d * scale));
        pen.stroke();
      }
      pen.strokeStyle = "rgba(90, 170, 255, 0.55)";
      pen.lineWidth = scale;
      pen.setLineDash([]);
      pen.strokeRect(x(here[across]), top - scale, 0, height + 2 * scale);
      pen.strokeRect(left - scale, y(here[up]), width + 2 * scale, 0);
      pen.restore();
    }
  }

  // Controls -------------------------------------------------------------------------------------------------------

  // While a case is loaded, its layers are not there to be changed.
  const ready = (action) => (event) => { if (root.dataset.state === "ready") action(event); };
  const redraw = ready(() => state.nv.drawScene());
  const go = (number) => { if (state.nv) open((number + facts.cases.length) % facts.cases.length).catch(fail); };
  get("viewer-previous").onclick = () => go(state.number - 1);
  get("viewer-next").onclick = () => go(state.number + 1);
  get("viewer-case").onchange = (event) => go(Number(event.target.value));
  get("viewer-planes").onchange = ready((event) => { state.nv.setSliceType(Number(event.target.value)); redraw(); });
  get("viewer-sample").onchange = get("show-reference").onchange = get("show-inclusion").onchange = redraw;
  for (const id of ["show-image", "show-prediction", "show-uncertainty"]) get(id).onchange = ready(changeLayers);
  get("fill").oninput = ready(changeLayers);
  AXES.forEach((name, axis) => {
    get("slice-" + name).oninput = ready((event) => {
      const ras = place();
      ras[axis] = Number(event.target.value);
      moveTo(ras);
    });
  });
  for (const name of ["low", "high"])
    get(name).oninput = ready((event) => {
      state.layers.image[name === "low" ? "cal_min" : "cal_max"] = Number(event.target.value);
      showWindow();
      state.nv.updateGLVolume();
    });
  get("zoom").oninput = ready(zoom);

  function fail(error) {
    root.dataset.state = "failed";
    message(`The viewer cannot be shown: ${error.message}.`);
  }

  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    start().catch(fail);
  }, { rootMargin: "400px" }).observe(root);
})();
