// Keeps the values of the page fresh: asks /api/v1/latest again and again, says when it cannot, and
// fetches the page itself once a minute for new lines, new sites and new sensors.

const RETRY_S = [1, 2, 4, 5];
const BANNER_AFTER = 3; // failed tries
const LOST_AFTER_MS = 30_000;
const PAGE_EVERY_MS = 60_000;
const TIMEOUT_MS = 5_000;

export function ageText(seconds, texts) {
  const [key, unit] =
    seconds < 60 ? ["age_s", 1] :
    seconds < 3600 ? ["age_min", 60] :
    seconds < 172_800 ? ["age_h", 3600] : ["age_d", 86_400];
  return texts[key].replace("{n}", String(Math.floor(seconds / unit)));
}

export function numberText(value, decimals) {
  if (value === null) return "–";
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

// What is only ever on or off is said in words; null where the value is neither.
export function switchText(value, texts) {
  return value === 1 ? texts.on : value === 0 ? texts.off : null;
}

export function stateOf(reading) {
  if (reading.observed_at === null) return "unseen";
  if (reading.stale) return "stale";
  return reading.quality === "good" ? "ok" : reading.quality;
}

export function noteOf(reading, texts) {
  if (reading.observed_at === null) return texts.no_data;
  const parts = [];
  if (reading.stale || reading.age_s >= texts.show_age_after_s) {
    parts.push(ageText(reading.age_s, texts));
  }
  for (const reason of reading.quality_reasons) {
    if (texts.reasons[reason]) parts.push(texts.reasons[reason]);
  }
  return parts.join(" · ");
}

// The next pause after so many failures in a row, in milliseconds; *random* is from 0 to 1.
export function retryMs(failures, random) {
  const base = RETRY_S[Math.min(failures, RETRY_S.length) - 1];
  return base * 1000 * (0.7 + 0.6 * random);
}

// The server writes the same into the page.
export function alertsSeen(alerts) {
  return alerts.map((one) => `${one.id}-${one.version}`).sort().join(" ");
}

const STATES = ["bad", "suspect", "stale", "unseen"];

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showReading(row, reading, texts) {
  const state = stateOf(reading);
  row.className = `row ${state}`;
  row.querySelector(".note use").setAttribute("href", `#mark-${state}`);
  const decimals = Number(row.dataset.decimals);
  const word = "switch" in row.dataset ? switchText(reading.value, texts) : null;
  setText(row.querySelector(".value"), word ?? numberText(reading.value, decimals));
  setText(row.querySelector(".why"), noteOf(reading, texts));
}

function showChips(place, scope, texts) {
  let abnormal = 0;
  for (const state of STATES) {
    const count = scope.querySelectorAll(`.row.${state}`).length;
    const chip = place.querySelector(`[data-chip="${state}"]`);
    abnormal += count;
    if (chip === null) continue;
    chip.hidden = count === 0;
    setText(chip.lastElementChild, texts[`n_${state}`].replace("{n}", String(count)));
  }
  const ok = place.querySelector('[data-chip="ok"]');
  if (ok !== null) ok.hidden = abnormal > 0;
}

class Page {
  constructor(main) {
    this.main = main;
    this.texts = JSON.parse(main.dataset.texts);
    this.everyMs = Number(main.dataset.everyMs);
    this.failures = 0;
    this.heardAt = Date.now();
    this.pageAt = Date.now();
    this.timer = undefined;
    this.asking = false;
    this.clock = new Intl.DateTimeFormat("en-GB", {
      timeZone: main.dataset.timezone, hour: "2-digit", minute: "2-digit", second: "2-digit",
    });
  }

  start() {
    document.addEventListener("visibilitychange", () => this.soon());
    window.addEventListener("online", () => this.soon());
    setInterval(() => this.showLoss(), 1000);
    this.soon();
  }

  // Ask now, unless nobody looks.
  soon() {
    clearTimeout(this.timer);
    if (!document.hidden && !this.asking) void this.ask();
  }

  async ask() {
    this.asking = true;
    try {
      const response = await this.get(this.main.dataset.latest);
      if (response.ok) {
        this.show(await response.json());
        const changed = await this.alertsChanged();
        if (changed || Date.now() - this.pageAt > PAGE_EVERY_MS) await this.renew();
      } else {
        this.refused(response.status);
      }
    } catch {
      this.unheard(); // no answer at all: the network, the server, or our patience of five seconds
    } finally {
      this.asking = false;
    }
    const pause = this.failures ? retryMs(this.failures, Math.random()) : this.everyMs;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.soon(), pause);
  }

  // Whether the open alerts are other ones than the page shows, or somebody did something about one.
  async alertsChanged() {
    if (!this.main.dataset.alerts) return false;
    const response = await this.get(this.main.dataset.alerts);
    if (!response.ok) return false;
    const alerts = await response.json();
    return alertsSeen(alerts) !== this.main.dataset.alertsSeen;
  }

  get(url) {
    return fetch(url, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  }

  show(readings) {
    const rows = new Map();
    for (const row of this.main.querySelectorAll(".row")) rows.set(row.dataset.series, row);
    for (const reading of readings) {
      const row = rows.get(reading.series);
      if (row !== undefined) showReading(row, reading, this.texts);
    }
    for (const card of this.main.querySelectorAll(".card")) showChips(card, card, this.texts);
    const summary = document.getElementById("summary");
    if (summary !== null) showChips(summary, this.main, this.texts);
    this.heard("live", this.texts.live, "");
    const updated = document.querySelector("#updated time");
    const now = new Date();
    updated.dateTime = now.toISOString();
    setText(updated, this.texts.updated.replace("{time}", this.clock.format(now)));
  }

  heard(state, text, banner) {
    this.failures = 0;
    this.heardAt = Date.now();
    this.showStatus(state, text);
    this.showBanner(banner);
    this.showLoss();
  }

  // The server answers, but cannot give values: say which it is, and keep asking.
  refused(status) {
    this.failures += 1;
    this.showStatus("reconnecting", this.texts.reconnecting);
    if (status === 401) this.showBanner(this.texts.no_access);
    else if (status === 503) this.showBanner(this.texts.database_away);
    else if (this.failures >= BANNER_AFTER) this.showBanner(this.texts.connection_lost);
  }

  unheard() {
    this.failures += 1;
    this.showStatus("reconnecting", this.texts.reconnecting);
    if (this.failures >= BANNER_AFTER) this.showBanner(this.texts.connection_lost);
  }

  showStatus(state, text) {
    document.getElementById("status").dataset.state = state;
    setText(document.getElementById("status-text"), text);
  }

  showBanner(text) {
    const banner = document.getElementById("banner");
    banner.hidden = text === "";
    setText(banner, text);
  }

  showLoss() {
    const lost = this.failures > 0 && Date.now() - this.heardAt > LOST_AFTER_MS;
    document.body.toggleAttribute("data-lost", lost);
  }

  // Take the cards of a fresh page: lines move on, and what was added to the site file appears.
  async renew() {
    const response = await this.get(location.href);
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const main = fresh.getElementById("values");
    if (main === null) return;
    this.main.replaceChildren(...main.childNodes);
    this.main.dataset.latest = main.dataset.latest;
    this.main.dataset.alerts = main.dataset.alerts ?? "";
    this.main.dataset.alertsSeen = main.dataset.alertsSeen ?? "";
    this.pageAt = Date.now();
  }
}

const main = document.getElementById("values");
if (main?.dataset.latest) new Page(main).start();
