// What the browser itself decides: the theme, and that the address tells the filters that are set.
(function () {
  const KEY = "fstore-theme";
  const wish = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }  // storage may be forbidden
  };
  const theme = () => chosen() || (wish.matches ? "dark" : "light");
  const show = () => { document.documentElement.dataset.theme = theme(); };
  show();
  wish.addEventListener("change", () => { show(); document.getElementById("repaint")?.click(); });

  // Charts cost most of what an update takes. What is in sight is drawn at once; a chart out of sight is first drawn
  // after those, one a turn, and later keeps what is new for it until it comes near.
  const NEAR_PX = 300;
  const spare = (plotly) => {
    const react = plotly.react.bind(plotly), news = new WeakMap();
    let turn = Promise.resolve();
    const isNear = (chart) => {
      const { top, bottom } = chart.getBoundingClientRect();
      return bottom > -NEAR_PX && top < window.innerHeight + NEAR_PX;
    };
    const comes = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) { continue; }
        comes.unobserve(target);
        if (news.has(target)) { react(target, news.get(target)); }
        news.delete(target);
      }
    }, { rootMargin: `${NEAR_PX}px` });
    plotly.react = (chart, figure) => {
      if (isNear(chart)) {
        news.delete(chart);
        return react(chart, figure);
      }
      if (!chart._fullLayout) {
        turn = turn.then(() => new Promise((resolve) => setTimeout(resolve)))
          .then(() => chart.isConnected && react(chart, figure)).catch((error) => console.error(error));
        return turn;
      }
      news.set(chart, figure);
      comes.observe(chart);
      return Promise.resolve(chart);
    };
    return plotly;
  };

  // Compiling Plotly keeps a browser busy for a second: the page's figures and words are painted before. Charts wait
  // for what is in window.Plotly, which may be the promise of it.
  window.Plotly = new Promise((resolve, reject) => {
    const load = () => {
      const script = document.createElement("script");
      script.src = document.querySelector('link[rel="preload"][href*="plotly"]').href;
      script.onload = () => resolve(spare(window.Plotly));
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

  // Tables: the server tells their cells as JSON, and they are made here. Text stays text, whatever it holds.
  const TAGS = new Set(["span", "a", "code", "div", "b", "strong"]);
  const fill = (parent, content) => {
    for (const one of Array.isArray(content) ? content : [content]) {
      if (Array.isArray(one)) { fill(parent, one); continue; }
      if (typeof one === "string") { parent.append(one); continue; }
      if (one.tag === "data") {
        const box = Object.assign(document.createElement("input"), { type: "checkbox", value: one.value });
        box.setAttribute("aria-label", "choose this row");
        parent.append(box);
        continue;
      }
      if (!TAGS.has(one.tag)) { continue; }
      const element = document.createElement(one.tag);
      if (one.class) { element.className = one.class; }
      if (one.title) { element.title = one.title; }
      if (one.tag === "a" && /^https?:\/\//.test(one.href || "")) {
        Object.assign(element, { href: one.href, target: "_blank", rel: "noopener noreferrer" });
      }
      fill(element, one.content);
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
      // Which page is asked for, with which filters, in which theme.
      view: function () {
        const by = window.dash_clientside.callback_context.triggered.map((t) => t.prop_id);
        if (by.includes("theme.n_clicks")) {
          const next = theme() === "dark" ? "light" : "dark";
          try { localStorage.setItem(KEY, next); } catch { /* it lasts as long as the page then */ }
          document.documentElement.dataset.theme = next;
        }
        return {
          path: window.location.pathname,
          search: window.location.search,
          theme: document.documentElement.dataset.theme,
        };
      },
      // Marks the page in the menu that is shown.
      here: function (view) {
        document.querySelectorAll(".side nav a").forEach((a) => {
          const is = new URL(a.href).pathname === view.path;
          a.classList.toggle("here", is);
          if (is) { a.setAttribute("aria-current", "page"); } else { a.removeAttribute("aria-current"); }
          if (is) { a.scrollIntoView({ block: "nearest", inline: "center" }); }
        });
        return window.dash_clientside.no_update;
      },
      // What is to be done with which of the ticked rows.
      decide: function () {
        const by = window.dash_clientside.callback_context.triggered.map((t) => t.prop_id)[0] || "";
        const ticked = [...document.querySelectorAll("#quality-rows input:checked")].map((box) => box.value);
        return { decision: by.startsWith("quality-release") ? "released" : "discarded", rows: ticked, at: Date.now() };
      },
      // Puts filters into the address, so that it can be shared and a reload keeps them.
      remember: function (query) {
        if (typeof query === "string") {
          window.history.replaceState(null, "", window.location.pathname + (query ? "?" + query : ""));
        }
        return window.dash_clientside.no_update;
      },
    },
  });
})();
