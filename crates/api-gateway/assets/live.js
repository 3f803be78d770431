// Renews the parts of the page marked data-live from a new copy of the page, without a reload: a form that somebody is
// filling in, the place on the page and the focus stay.
"use strict";

const PAUSE = 3000; // milliseconds

async function renew() {
  if (document.hidden) return;
  const answer = await fetch("/", { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const renewed = fresh.getElementById(old.id);
    // A button that has the focus is about to be pressed.
    if (renewed && !old.contains(document.activeElement)) old.replaceChildren(...renewed.childNodes);
  }
}

setInterval(() => renew().catch(() => {}), PAUSE);
