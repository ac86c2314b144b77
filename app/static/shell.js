// What pages can do without: copying, colours, the session's token on what htmx sends. Everything else is plain forms and links.
(() => {
  "use strict";

  const copy = async (button) => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    } catch {
      button.textContent = "select it";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };

  const show = (part) => {
    if (navigator.clipboard) for (const button of part.querySelectorAll("button.copy")) button.hidden = false;
  };

  const colours = document.getElementById("theme");
  if (colours) {
    colours.closest("[hidden]").hidden = false;
    colours.value = document.documentElement.dataset.theme || "";
    colours.addEventListener("change", () => {
      try {
        if (colours.value) localStorage.setItem("expunge-theme", colours.value);
        else localStorage.removeItem("expunge-theme");
      } catch { /* it holds for this page then */ }
      if (colours.value) document.documentElement.dataset.theme = colours.value;
      else delete document.documentElement.dataset.theme;
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) copy(button);
  });

  // A form that was sent is not sent twice by an impatient click; one that comes back by the Back button works again.
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (button && event.target.method === "post") setTimeout(() => { button.disabled = true; }, 0);
  });
  window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("button[type=submit]:disabled")) button.disabled = false;
  });

  document.body.addEventListener("htmx:afterSwap", (event) => show(event.detail.elt.parentElement || document.body));
  show(document);

  const onward = document.getElementById("onward");
  if (onward) location.replace(onward.href);
})();
