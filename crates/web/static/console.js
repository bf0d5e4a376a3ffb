// The console's one script. Everything works without it but live updates, keys and the idle lock.
"use strict";
(() => {
  const body = document.body;
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  // Somebody is typing or has chosen something there: it is not taken from them.
  const filled = (it) => (it.tagName === "SELECT" ? it.selectedIndex > 0 : it.value !== it.defaultValue);
  const busy = (element) => (element.contains(document.activeElement) && document.activeElement !== body) || [...element.querySelectorAll("select, textarea")].some(filled);

  // Say something without stealing focus.
  const say = (text) => {
    let toast = $(".toast");
    if (!toast) {
      toast = document.createElement("p");
      toast.className = "toast";
      toast.setAttribute("role", "status");
      body.append(toast);
    }
    toast.textContent = text;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => toast.remove(), 6000);
  };

  // Live updates: the page is fetched again and only what changed is put in place.
  const patchList = (list, fresh) => {
    const wanted = new Map($$(":scope > [data-key]", fresh).map((item) => [item.dataset.key, item]));
    for (const item of $$(":scope > [data-key]", list)) {
      if (!wanted.has(item.dataset.key) && !busy(item)) item.remove();
    }
    let before = null;
    for (const [key, item] of wanted) {
      const known = $$(":scope > [data-key]", list).find((one) => one.dataset.key === key);
      if (!known) {
        list.insertBefore(item, before ? before.nextSibling : list.firstChild);
        before = item;
      } else {
        if (known.innerHTML !== item.innerHTML && !busy(known)) known.replaceChildren(...item.childNodes);
        before = known;
      }
    }
  };
  const refresh = async () => {
    const answer = await fetch(location.href, { headers: { "x-chaperone-live": "1" }, cache: "no-store" });
    if (answer.status === 401) return lock();
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of $$("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || old.innerHTML === fresh.innerHTML) continue;
      const list = $("[data-keyed]", old);
      const freshList = $("[data-keyed]", fresh);
      if (list && freshList) patchList(list, freshList);
      else if (busy(old)) say("Something changed here; press r to see it");
      else old.replaceChildren(...fresh.childNodes);
    }
    gateByTime();
    gateByView();
  };
  let waiting = false;
  const refreshSoon = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; refresh().catch(() => {}); }, 250);
  };
  // A page that asks for a passkey is not fetched again: each fetch asks anew, and ends what was asked before.
  if (body.dataset.events && $("[data-live]") && !$("form[data-passkey]")) {
    const source = new EventSource(body.dataset.events);
    source.addEventListener("change", refreshSoon);
    source.addEventListener("end", () => { source.close(); lock(); });
  }

  // Approving is offered once the change has been on the screen for a moment; the server counts for itself.
  const gates = (button) => Number(button.dataset.gates || 0);
  const hold = (button) => { button.dataset.gates = gates(button) + 1; button.disabled = true; };
  const free = (button) => { button.dataset.gates = gates(button) - 1; button.disabled = gates(button) > 0; };
  // A list or bar that is refreshed shows the same change: what was seen of it stays seen.
  const changeOf = (button) => button.form.action + button.form.elements.digest.value;
  const first = new Map();
  const gateByTime = () => {
    for (const button of $$("[data-after-ms]")) {
      if (button.dataset.timed) continue;
      button.dataset.timed = "1";
      const change = changeOf(button);
      if (!first.has(change)) first.set(change, performance.now());
      const left = Number(button.dataset.afterMs) + 100 - (performance.now() - first.get(change));
      if (left <= 0) continue;
      hold(button);
      setTimeout(() => free(button), left);
    }
  };
  gateByTime();

  // Grave changes: approving is offered once the end of the change has been on the screen.
  const readToEnd = new Set();
  const gateByView = () => {
    const button = $("[data-after-view]");
    const end = button && $(button.dataset.afterView);
    if (!end || button.dataset.gated) return;
    button.dataset.gated = "1";
    const change = changeOf(button);
    if (readToEnd.has(change)) return;
    hold(button);
    const note = $("#gate-note");
    if (note) note.hidden = false;
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      readToEnd.add(change);
      free(button);
      if (note) note.hidden = true;
      observer.disconnect();
    }, { rootMargin: "0px 0px -120px 0px" }).observe(end);
  };
  gateByView();

  // Idle lock: what is on the screen goes when nobody is there.
  const idle = Number(body.dataset.idleS || 0) * 1000;
  const lock = () => {
    body.classList.add("locked");
    location.replace("/console/sign-in?after=idle");
  };
  if (idle > 0) {
    let last = Date.now();
    let told = Date.now();
    const active = () => {
      last = Date.now();
      if (last - told > 60000) {
        told = last;
        fetch("/console/alive", { cache: "no-store" }).then((answer) => answer.status === 401 && lock(), () => {});
      }
    };
    for (const kind of ["pointerdown", "keydown", "scroll"]) addEventListener(kind, active, { passive: true });
    setInterval(() => {
      const left = last + idle - Date.now();
      if (left <= 0) lock();
      else if (left < 60000) say("This page locks in under a minute");
    }, 5000);
  }

  // Keys.
  const rows = () => $$("a[data-row]");
  const move = (step) => {
    const all = rows();
    if (!all.length) return;
    const here = all.indexOf(document.activeElement);
    const next = all[Math.min(Math.max(here + step, 0), all.length - 1)];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  };
  const places = { i: "/console", p: "/console/patients", m: "/console/modes", l: "/console/ledger", h: "/console/health" };
  let going = false;
  addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest("input, textarea, select")) return;
    if (going && places[event.key]) { going = false; location.assign(places[event.key]); return; }
    going = event.key === "g";
    const dialog = $("#keys");
    if (event.key === "?" && dialog) { dialog.open ? dialog.close() : dialog.showModal(); }
    else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "r") refresh().catch(() => {});
    else if (event.key === "c") { const coded = $("#coded"); if (coded) coded.open = !coded.open; }
    else if (event.key === "x") { const reason = $("#reason"); if (reason) { event.preventDefault(); reason.focus(); } }
    else if (event.key === "a") {
      const row = document.activeElement && document.activeElement.closest("[data-key]");
      const quick = row && $("[data-quick]", row);
      const approve = $("#approve");
      if (quick) quick.click();
      else if (approve && !approve.disabled) approve.dataset.light ? approve.click() : approve.focus();
    }
  });
  for (const close of $$("dialog [data-close]")) close.addEventListener("click", () => close.closest("dialog").close());
  for (const field of $$("form[data-auto] select")) field.addEventListener("change", () => field.form.submit());
})();
