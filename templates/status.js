"use strict";
(() => {
  const STALE = 36 * 3600 * 1000;
  const $ = (id) => document.getElementById(id);
  const made = Date.parse($("made").dateTime);
  const banner = $("stale");
  const look = () => { banner.hidden = Date.now() - made <= STALE; };
  look();
  setInterval(look, 60 * 1000);

  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const lines = Array.from(document.querySelectorAll("#lines > li"), (line) => ({
    line, state: line.dataset.state, text: plain(line.querySelector(".who").textContent),
  }));
  const find = $("find");
  const state = $("state");
  const count = $("count");
  const show = () => {
    const words = plain(find.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of lines) {
      const fits = (!state.value || one.state === state.value) && words.every((word) => one.text.includes(word));
      one.line.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = count.dataset.shown.replace("{shown}", shown).replace("{all}", lines.length);
    $("nothing").hidden = shown > 0 || lines.length === 0;
  };
  $("controls").hidden = false;
  find.addEventListener("input", show);
  state.addEventListener("change", show);
  show();
})();
