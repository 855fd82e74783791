"use strict";
// What the desk's pages gain by a script: parts renewed in place, news as they come, keys. Every page works without it.

(() => {
  const body = document.body;
  const main = () => document.getElementById("main");
  const help = document.getElementById("help");
  const live = document.getElementById("live");
  const PARTS = "[data-part]";
  let sending = 0;
  let renewals = 0;

  // ---- Parts of the page, renewed from the page itself ----

  // The page at `url` as a document, and where it stands: what refuses a form stands where the form stood, since nothing
  // can be read at the form's own address. Null where the session is over, of which the sign-in tells.
  async function page(url, options = {}) {
    const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "text/html" }, ...options });
    if (!(answer.headers.get("Content-Type") || "").startsWith("text/html")) throw new Error(`${url}: no page`);
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!found.getElementById("live")) { location.assign(answer.url); return null; }
    return { found, url: options.method === "POST" && !answer.redirected ? location.href : answer.url };
  }

  // The page that is shown as it is now. What is sent or was sent meanwhile goes first, since it brings a page of its
  // own, and of two renewals the later one counts.
  async function anew() {
    const mine = ++renewals;
    const came = sending ? null : await page(location.href);
    return came && !sending && mine === renewals ? came : null;
  }

  function show({ found, url }) {
    main().replaceWith(document.adoptNode(found.getElementById("main")));
    document.title = found.title;
    if (url !== location.href) history.pushState({}, "", url);
    shownAt = address();
    prepare();
    const told = main().querySelector(".notice") || main();
    told.tabIndex = -1;
    told.focus({ preventScroll: false });
  }

  // Renews what shows data and holds nothing that the reader has typed, and no form that is open: it may have come back
  // with what was wrong with it, and with what was chosen before. Returns the page that came.
  async function renew() {
    const came = await anew();
    if (!came) return null;
    for (const part of main().querySelectorAll(PARTS)) {
      const next = came.found.getElementById(part.id);
      const kept = part.contains(document.activeElement) || part.querySelector("details[open] form") || typed(part);
      if (next && !kept) {
        part.replaceWith(document.adoptNode(next));
      }
    }
    return came;
  }

  const typed = (within) => [...within.querySelectorAll("input:not([type=hidden]), textarea, select")].some((field) =>
    field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked
      : field.tagName === "SELECT" ? [...field.options].some((one) => one.selected !== one.defaultSelected && field.selectedIndex > 0)
        : field.value !== field.defaultValue);

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-here]") || event.defaultPrevented) return;
    event.preventDefault();
    const button = event.submitter;
    const data = new FormData(form, button);
    if (button) button.disabled = true;
    sending += 1;
    renewals += 1;
    try {
      const came = form.method === "get"
        ? await page(`${form.action.split("?")[0]}?${new URLSearchParams([...data].filter(([, value]) => value !== ""))}`)
        : await page(form.action, { method: "POST", body: new URLSearchParams(data) });
      if (came) show(came);
    } catch {
      say("lost");
      tell(live.dataset.unsent);
    } finally {
      sending -= 1;
      if (button) button.disabled = false;
    }
  });

  // Going back to another page reads it anew; going to a part of this one, as the link to the content does, stays.
  const address = () => location.pathname + location.search;
  let shownAt = address();
  addEventListener("popstate", () => { if (address() !== shownAt) location.reload(); });

  // A word above the page, without losing what stands below it.
  function tell(words) {
    let notice = document.getElementById("told");
    if (!notice) {
      notice = document.createElement("div");
      notice.id = "told";
      notice.className = "notice wrong";
      notice.setAttribute("role", "alert");
      main().prepend(notice);
    }
    notice.textContent = words;
  }

  // ---- News: a page is said to be live only while the stream is open and speaks ----

  const SILENT_MS = 40000;
  const CALM_MS = 400;
  let heard = 0;
  let waiting = null;
  let source = null;

  function say(state) {
    if (!live || live.dataset.state === state) return;
    live.dataset.state = state;
    live.querySelector("span").textContent = live.dataset[state];
  }

  function soon() {
    clearTimeout(waiting);
    waiting = setTimeout(changed, CALM_MS);
  }

  async function changed() {
    waiting = null;
    try {
      const queue = document.getElementById("queue");
      if (queue) return void await renewQueue(queue);
      const came = await renew();
      if (!came) return undefined;
      const now = came.found.getElementById("case");
      const shown = document.getElementById("case");
      if (now && shown && now.dataset.version !== shown.dataset.version) {
        document.getElementById("changed").hidden = false;
      }
      say("live");
    } catch {
      say("lost");
    }
    return undefined;
  }

  // Rows that are shown change where they stand; what would move them waits until the reader asks.
  async function renewQueue(queue) {
    const came = await anew();
    const next = came && came.found.getElementById("queue");
    if (!next) return;
    const news = new Map([...next.querySelectorAll("tr[id]")].map((row) => [row.id, row]));
    const rows = [...queue.querySelectorAll("tr[id]")];
    let moved = news.size !== rows.length;
    rows.forEach((row, place) => {
      const fresh = news.get(row.id);
      if (!fresh) { row.classList.add("gone"); moved = true; return; }
      if (next.querySelectorAll("tr[id]")[place].id !== row.id) moved = true;
      if (row.contains(document.activeElement) || typed(row)) { moved = true; return; }
      if (row.hasAttribute("aria-current")) fresh.setAttribute("aria-current", "true");
      row.replaceWith(document.importNode(fresh, true));
    });
    const pill = document.getElementById("fresh");
    if (moved && pill) pill.hidden = false;
    say("live");
  }

  function listen() {
    if (!live || !body.dataset.live || typeof EventSource === "undefined") return;
    source = new EventSource(body.dataset.live);
    const hear = () => { heard = Date.now(); };
    // What was missed cannot be told again: the page is read anew before it is called live.
    source.addEventListener("anew", () => { hear(); soon(); });
    // What was missed follows at once, and is read before the page is called live.
    source.addEventListener("resumed", () => { hear(); setTimeout(() => { if (!waiting) say("live"); }, 50); });
    source.addEventListener("beat", () => { hear(); if (live.dataset.state !== "live" && !waiting) soon(); });
    source.addEventListener("deaf", () => { hear(); say("lost"); });
    source.addEventListener("case", (event) => {
      hear();
      const shown = document.getElementById("case");
      const news = JSON.parse(event.data);
      if (!shown || shown.dataset.id === news.alert_id) soon();
    });
    source.onerror = () => {
      say("lost");
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { source.close(); listen(); }, 5000);
    };
  }

  setInterval(() => { if (source && heard && Date.now() - heard > SILENT_MS) say("lost"); }, 5000);
  addEventListener("pagehide", () => source && source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) { say("lost"); listen(); } });

  // ---- Keys ----

  const rows = () => [...document.querySelectorAll("#queue tr[id], .rows tbody tr[data-open]")];

  function step(by) {
    const all = rows();
    if (!all.length) return;
    const now = all.findIndex((row) => row.hasAttribute("aria-current"));
    const next = all[Math.min(Math.max(now < 0 && by < 0 ? all.length - 1 : now + by, 0), all.length - 1)];
    all.forEach((row) => row.removeAttribute("aria-current"));
    next.setAttribute("aria-current", "true");
    next.querySelector("a").focus();
    next.scrollIntoView({ block: "nearest" });
  }

  const press = (id) => { const found = document.getElementById(id); if (found) found.click(); };
  const keys = {
    j: () => step(1),
    k: () => step(-1),
    n: () => press("next"),
    u: () => press("back"),
    r: () => press("fresh"),
    x: () => {
      const row = rows().find((one) => one.hasAttribute("aria-current"));
      const box = row && row.querySelector("input[type=checkbox]");
      if (box) box.click();
    },
    "/": () => { const field = document.getElementById("search"); if (field) { field.closest("details").open = true; field.focus(); } },
    "?": () => help && (help.open ? help.close() : help.showModal()),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const on = event.target;
    if (on.matches("input:not([type=checkbox]), textarea, select")) return;
    if (help && help.open && event.key !== "?") return;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-help]");
    if (opener && help) { event.preventDefault(); help.showModal(); }
    if (help && event.target.closest("[data-close]")) help.close();
    const menu = document.querySelector(".account[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
  });

  // ---- What is slow to compute comes after the page, once it is looked at ----

  const seen = new IntersectionObserver((places) => places.filter((one) => one.isIntersecting).forEach((one) => {
    seen.unobserve(one.target);
    fill(one.target);
  }));

  async function fill(place) {
    try {
      const answer = await fetch(place.dataset.from, { credentials: "same-origin", headers: { Accept: "text/html" } });
      const found = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-answer]");
      if (found) { place.replaceWith(document.adoptNode(found)); place = found; }
    } catch { /* the link that stands there leads to the same; what was there says of when it is */ }
    // What goes on by itself is looked at again, as long as it is shown.
    if (place.dataset.again) setTimeout(() => { if (place.isConnected) seen.observe(place); }, 1000 * place.dataset.again);
  }

  function prepare() {
    document.querySelectorAll("[data-from]").forEach((place) => seen.observe(place));
    document.querySelectorAll("input[data-all]").forEach((all) => {
      all.hidden = false;
      all.addEventListener("change", () => {
        document.querySelectorAll("#queue tbody input[type=checkbox]").forEach((box) => { box.checked = all.checked; });
      });
    });
    document.querySelectorAll("details[data-narrow]").forEach((part) => {
      if (matchMedia("(max-width: 52rem)").matches) part.open = false;
    });
  }

  prepare();
  listen();
})();
