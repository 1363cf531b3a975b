"use strict";
(() => {
  const STALE = 36 * 3600 * 1000;
  const $ = (id) => document.getElementById(id);
  const made = Date.parse($("made").dateTime);
  const banner = $("stale");
  const look = () => { banner.hidden = Date.now() - made <= STALE; };
  look();
  setInterval(look, 60 * 1000);

  // A number is compared by its digits, however it is written; fewer than four are only text.
  const asNumber = (text) => (/^\+?[\d\s().\/\p{Pd}]{4,}$/u.test(text) ? text.replace(/\D/g, "") : "");
  const numbersIn = (text) => (text.match(/\d[\d\s().\/\p{Pd}]*/gu) || []).map((run) => run.replace(/\D/g, ""));
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const lines = Array.from(document.querySelectorAll("#lines > li"), (line) => ({
    line, state: line.dataset.state, text: plain(line.querySelector(".who").textContent),
    numbers: Array.from(line.querySelectorAll(".who h3, .who bdi"), (one) => numbersIn(one.textContent)).flat(),
  }));
  const has = (one, asked) => {
    const number = asNumber(asked);
    return one.text.includes(asked) || (number.length > 3 && one.numbers.some((each) => each.includes(number)));
  };
  const find = $("find");
  const state = $("state");
  const count = $("count");
  const show = () => {
    const asked = plain(find.value).trim();
    const words = asked.split(/\s+/);
    let shown = 0;
    for (const one of lines) {
      const found = has(one, asked) || words.every((word) => has(one, word));
      const fits = found && (!state.value || one.state === state.value);
      one.line.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = count.dataset.shown.replace("{shown}", shown).replace("{all}", lines.length);
    $("nothing").hidden = shown > 0 || lines.length === 0;
  };
  $("controls").hidden = false;
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  find.addEventListener("input", show);
  state.addEventListener("change", show);
  show();
})();
