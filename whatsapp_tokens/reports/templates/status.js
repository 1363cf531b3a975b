"use strict";
(() => {
  const STALE = 36 * 3600 * 1000;
  const $ = (id) => document.getElementById(id);
  const made = Date.parse($("made").dateTime);
  const banner = $("stale");
  const look = () => { banner.hidden = Date.now() - made <= STALE; };
  look();
  setInterval(look, 60 * 1000);

  // Times stand there in UTC; beside them comes the time of whoever reads the page.
  const words = document.body.dataset;
  const two = (number) => String(number).padStart(2, "0");
  const month = new Intl.DateTimeFormat(document.documentElement.lang, { month: "short" });
  for (const element of document.querySelectorAll("time")) {
    const time = new Date(element.dateTime);
    if (time.getTimezoneOffset() === 0) continue;
    const day = time.getDate() === time.getUTCDate() ? "" : `${time.getDate()} ${month.format(time)}, `;
    const local = document.createElement("span");
    local.className = "local";
    local.textContent = words.local.replace("{time}", `${day}${two(time.getHours())}:${two(time.getMinutes())}`);
    element.after(" ", local);
  }

  // Where the page may not write to the clipboard, the link is shown and selected.
  document.documentElement.classList.add("scripted");
  const copy = async (button) => {
    const { href } = button.parentElement.querySelector("a");
    const label = button.firstChild;
    button.dataset.label ??= label.data;
    try {
      await navigator.clipboard.writeText(href);
      label.data = words.copied;
    } catch {
      const field = button.parentElement.querySelector("input") ?? document.createElement("input");
      Object.assign(field, { readOnly: true, value: href, ariaLabel: words.byHand });
      button.after(field);
      field.focus();
      field.select();
      label.data = words.byHand;
    }
    $("said").textContent = label.data;
    setTimeout(() => { label.data = button.dataset.label; $("said").textContent = ""; }, 4000);
  };
  for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", () => copy(button));

  // A number is compared by its digits, however it is written; fewer than four are only text.
  const asNumber = (text) => (/^\+?[\d\s().\/\p{Pd}]{4,}$/u.test(text) ? text.replace(/\D/g, "") : "");
  const numbersIn = (text) => (text.match(/\d[\d\s().\/\p{Pd}]*/gu) || []).map((run) => run.replace(/\D/g, ""));
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const lines = Array.from(document.querySelectorAll("#lines .line"), (line) => ({
    line, state: line.dataset.state, text: plain(line.querySelector(".who").textContent),
    numbers: Array.from(line.querySelectorAll(".who h3, .who bdi"), (one) => numbersIn(one.textContent)).flat(),
  }));
  const has = (one, asked) => {
    const number = asNumber(asked);
    return one.text.includes(asked) || (number.length > 3 && one.numbers.some((each) => each.includes(number)));
  };
  const groups = Array.from(document.querySelectorAll("#lines > .group"));
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
    for (const group of groups) group.hidden = !group.querySelector(".line:not([hidden])");
    count.textContent = count.dataset.shown.replace("{shown}", shown).replace("{all}", lines.length);
    $("nothing").hidden = shown > 0 || lines.length === 0;
  };
  $("controls").hidden = lines.length === 0;
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  find.addEventListener("input", show);
  state.addEventListener("change", show);
  if (lines.length > 0) show();
})();
