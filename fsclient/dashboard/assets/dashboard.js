// What the browser does by itself: the theme, drawing charts and tables, and keeping the filters in the address.
(function () {
  const KEY = "fstore-theme";
  const preference = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }  // storage may be forbidden
  };
  const theme = () => chosen() || (preference.matches ? "dark" : "light");
  const show = () => { document.documentElement.dataset.theme = theme(); };
  show();
  preference.addEventListener("change", () => { show(); document.getElementById("repaint")?.click(); });

  // Charts are the most expensive part of an update. Those in sight are drawn at once; a chart out of sight is first
  // drawn after them, one per turn of the event loop, and later keeps its update until it comes near.
  const NEAR_PX = 300;
  const drawLazily = (plotly) => {
    const react = plotly.react.bind(plotly), updates = new WeakMap();
    let turn = Promise.resolve();
    const isNear = (chart) => {
      const { top, bottom } = chart.getBoundingClientRect();
      return bottom > -NEAR_PX && top < window.innerHeight + NEAR_PX;
    };
    const approaching = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) { continue; }
        approaching.unobserve(target);
        if (updates.has(target)) { react(target, updates.get(target)); }
        updates.delete(target);
      }
    }, { rootMargin: `${NEAR_PX}px` });
    plotly.react = (chart, figure) => {
      if (isNear(chart)) {
        updates.delete(chart);
        return react(chart, figure);
      }
      if (!chart._fullLayout) {
        turn = turn.then(() => new Promise((resolve) => setTimeout(resolve)))
          .then(() => chart.isConnected && react(chart, figure)).catch((error) => console.error(error));
        return turn;
      }
      updates.set(chart, figure);
      approaching.observe(chart);
      return Promise.resolve(chart);
    };
    return plotly;
  };

  // Compiling Plotly keeps a browser busy for a second, so the page's text and figures are painted first. Charts wait
  // for window.Plotly, which may be a promise.
  window.Plotly = new Promise((resolve, reject) => {
    const load = () => {
      const script = document.createElement("script");
      script.src = document.querySelector('link[rel="preload"][href*="plotly"]').href;
      script.onload = () => resolve(drawLazily(window.Plotly));
      script.onerror = reject;
      document.head.append(script);
    };
    const awaited = new MutationObserver(() => {
      if (document.querySelector("#page h1")) {
        awaited.disconnect();
        requestAnimationFrame(() => setTimeout(load));
      }
    });
    awaited.observe(document, { childList: true, subtree: true });
  });

  // Tables: the server sends their cells as JSON, and they are built here. Text stays text, whatever it contains.
  const TAGS = new Set(["span", "a", "code", "div", "b", "strong"]);
  const fill = (parent, content) => {
    for (const part of Array.isArray(content) ? content : [content]) {
      if (Array.isArray(part)) { fill(parent, part); continue; }
      if (typeof part === "string") { parent.append(part); continue; }
      if (part.tag === "data") {
        const box = Object.assign(document.createElement("input"), { type: "checkbox", value: part.value });
        box.setAttribute("aria-label", "Choose this row");
        parent.append(box);
        continue;
      }
      if (!TAGS.has(part.tag)) { continue; }
      const element = document.createElement(part.tag);
      if (part.class) { element.className = part.class; }
      if (part.title) { element.title = part.title; }
      if (part.tag === "a" && /^https?:\/\//.test(part.href || "")) {
        Object.assign(element, { href: part.href, target: "_blank", rel: "noopener noreferrer" });
      }
      fill(element, part.content);
      parent.append(element);
    }
  };
  const draw = (place) => {
    const { head, rows } = JSON.parse(place.dataset.table);
    const table = document.createElement("table");
    const titles = table.createTHead().insertRow();
    for (const [text, kind] of head) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.className = kind;
      cell.textContent = text;
      titles.append(cell);
    }
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      row.forEach((content, n) => {
        const cell = line.insertCell();
        cell.className = head[n][1];
        fill(cell, content);
      });
    }
    place.replaceChildren(table);
  };
  new MutationObserver((changes) => {
    const places = new Set();
    for (const change of changes) {
      if (change.type === "attributes") { places.add(change.target); }
      for (const node of change.addedNodes) {
        if (node.matches?.("[data-table]")) { places.add(node); }
        node.querySelectorAll?.("[data-table]").forEach((place) => places.add(place));
      }
    }
    places.forEach(draw);
  }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-table"] });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    dashboard: {
      // The page to show, its filters and its theme.
      view: function () {
        const by = window.dash_clientside.callback_context.triggered.map((t) => t.prop_id);
        if (by.includes("theme.n_clicks")) {
          const next = theme() === "dark" ? "light" : "dark";
          try { localStorage.setItem(KEY, next); } catch { /* it then lasts as long as the page */ }
          document.documentElement.dataset.theme = next;
        }
        return {
          path: window.location.pathname,
          search: window.location.search,
          theme: document.documentElement.dataset.theme,
        };
      },
      // Marks the current page in the menu.
      here: function (view) {
        document.querySelectorAll(".side nav a").forEach((a) => {
          const is = new URL(a.href).pathname === view.path;
          a.classList.toggle("here", is);
          if (is) { a.setAttribute("aria-current", "page"); } else { a.removeAttribute("aria-current"); }
          if (is) { a.scrollIntoView({ block: "nearest", inline: "center" }); }
        });
        return window.dash_clientside.no_update;
      },
      // The decision and the rows that are ticked.
      decide: function () {
        const by = window.dash_clientside.callback_context.triggered.map((t) => t.prop_id)[0] || "";
        const ticked = [...document.querySelectorAll("#quality-rows input:checked")].map((box) => box.value);
        return { decision: by.startsWith("quality-release") ? "released" : "discarded", rows: ticked, at: Date.now() };
      },
      // Writes the filters into the address, so that it can be shared and a reload keeps them.
      remember: function (query) {
        if (typeof query === "string") {
          window.history.replaceState(null, "", window.location.pathname + (query ? "?" + query : ""));
        }
        return window.dash_clientside.no_update;
      },
    },
  });
})();
